"""The transformers engine, with a made-up model of two layers and once with real weights."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.llm.engine import Finished, FinishReason, Message, Prompt, Role, Sampling, TextDelta
from services.llm.engines.transformers import TransformersEngine, end_ids
from services.llm.prompts import Fitted
from services.llm.servicer import SERVICE, warm_up
from services.runtime import sources
from services.runtime.errors import InvalidInput, LoadFailed, Unavailable
from services.runtime.settings import CATALOG_FOLDER, read_catalog

SPEC = read_catalog(CATALOG_FOLDER / "llm.json")["smollm2-135m-fp32"]
TEMPLATE = "{% for message in messages %}{{ message.content }}<|end|>{% endfor %}"
OPTIONS = {"device": "cpu", "threads": 1, "max_tokens": 64, "defaults": {"max_tokens": 16}}
needs_torch = pytest.mark.torch


class Counting(TransformersEngine):
    """The engine itself, knowing how many tokens its model has made."""

    steps = 0

    def _reply(self, prompt: Fitted, sampling: Sampling) -> Any:
        reply = super()._reply(prompt, sampling)
        step = reply.step

        def counted() -> int:
            self.steps += 1
            return step()

        # The engine makes its replies itself, so its step is wrapped here.
        reply.step = counted  # type: ignore[method-assign]
        return reply


def made_up(folder: Path, template: str | None = TEMPLATE) -> Any:
    """Save a random Llama, whose tokens are bytes, as safetensors. Returns the model."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = {letter: id for id, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(fast), max_position_embeddings=256, eos_token_id=None, **shape)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made-up")
    made_up(path)
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Counting]:
    engine = Counting(folder, OPTIONS)
    asyncio.run(engine.load())
    yield engine
    asyncio.run(engine.unload())


async def prompts(*texts: str) -> AsyncIterator[Prompt]:
    for text in texts:
        yield Prompt(text, 0, (Message(Role.USER, text),))


async def said(engine: TransformersEngine, text: str, **sampling: Any) -> tuple[str, Finished]:
    config = replace(engine.defaults, **sampling)
    *deltas, finished = [output async for output in engine.generate(config, prompts(text))]
    assert isinstance(finished, Finished)
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), finished


async def ids_of(engine: TransformersEngine, prompt: Sequence[int], sampling: Sampling) -> list[int]:
    return [token async for token in engine._tokens(Fitted(tuple(prompt), 0, 0), sampling)]


@needs_torch
async def test_a_greedy_reply_is_the_one_that_transformers_makes(engine: Counting, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = [5, 99, 7, 42]
    with torch.inference_mode():
        expected = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[0, len(prompt) :]
    assert await ids_of(engine, prompt, Sampling(max_tokens=20)) == expected.tolist()


@needs_torch
async def test_a_greedy_reply_goes_on_as_it_was_wherever_it_was_cut(engine: Counting) -> None:
    prompt, sampling = [5, 99, 7, 42], Sampling(max_tokens=20, repetition_penalty=1.5)
    whole = await ids_of(engine, prompt, sampling)
    for cut in range(1, 20):
        begun = Fitted((*prompt, *whole[:cut]), 0, 0, cut)
        rest = [token async for token in engine._tokens(begun, replace(sampling, max_tokens=20 - cut))]
        assert rest == whole[cut:]


@needs_torch
async def test_max_tokens_ends_a_reply(engine: Counting) -> None:
    _, finished = await said(engine, "Hello", max_tokens=5)
    assert (finished.reason, finished.reply_tokens) == (FinishReason.MAX_TOKENS, 5)


@needs_torch
async def test_a_seed_repeats_a_reply_and_another_gives_another(engine: Counting) -> None:
    def drawn(seed: int | None) -> Sampling:
        return Sampling(max_tokens=20, temperature=1.0, top_p=0.95, seed=seed)

    first, again, other, free = [await ids_of(engine, [1, 2, 3], drawn(seed)) for seed in (7, 7, 8, None)]
    assert first == again
    assert first != other
    assert free not in (first, other)


@needs_torch
async def test_several_at_once_each_get_their_own_answer_and_take_turns(engine: Counting) -> None:
    alone = [await ids_of(engine, [number], Sampling(max_tokens=12)) for number in range(10)]
    order: list[int] = []

    async def listen(number: int) -> list[int]:
        tokens = []
        async for token in engine._tokens(Fitted((number,), 0, 0), Sampling(max_tokens=12)):
            order.append(number)
            tokens.append(token)
        return tokens

    assert await asyncio.gather(*map(listen, range(10))) == alone
    assert sorted(order[:10]) == list(range(10))


@needs_torch
async def test_closing_stops_the_model_within_a_token(engine: Counting) -> None:
    outputs = engine.generate(Sampling(max_tokens=60), prompts("Hello"))
    await anext(outputs)
    before = engine.steps
    await outputs.aclose()
    await ids_of(engine, [1], Sampling(max_tokens=2))
    assert engine.steps - before <= 2 + 1


@needs_torch
async def test_cancelling_stops_the_model_within_a_token(engine: Counting) -> None:
    started = asyncio.Event()

    async def listen() -> None:
        async for _ in engine._tokens(Fitted((1,), 0, 0), Sampling(max_tokens=10_000)):
            started.set()

    task = asyncio.create_task(listen())
    await started.wait()
    task.cancel()
    before = engine.steps
    with pytest.raises(asyncio.CancelledError):
        await task
    await ids_of(engine, [1], Sampling(max_tokens=2))
    assert engine.steps - before <= 2 + 1


@needs_torch
async def test_unloading_ends_a_running_reply_and_says_so(folder: Path) -> None:
    engine = Counting(folder, OPTIONS)
    await engine.load()
    outputs = engine.generate(replace(engine.defaults, max_tokens=60, stop=()), prompts("Hello"))
    await anext(outputs)
    before = engine.steps
    await engine.unload()
    assert engine.steps - before <= 2
    with pytest.raises(Unavailable):
        _ = [output async for output in outputs]


@needs_torch
async def test_warming_up_says_something(engine: Counting) -> None:
    await warm_up(engine)


@needs_torch
async def test_the_context_is_the_models(engine: Counting) -> None:
    assert engine.limits.context_tokens == 256


@needs_torch
def test_the_likeliest_tokens_are_kept() -> None:
    import torch

    from services.llm.engines.torch_reply import draw

    logits, random = torch.tensor([0.0, 3.0, 2.0, 1.0]).log_softmax(-1), torch.Generator().manual_seed(1)

    def drawn(**sampling: Any) -> set[int]:
        return {draw(logits, [], Sampling(temperature=1.0, **sampling), random) for _ in range(200)}

    assert drawn() == {0, 1, 2, 3}
    assert drawn(top_k=1) == {1}
    assert drawn(top_k=2) == {1, 2}
    assert drawn(top_p=0.01) == {1}
    assert drawn(top_p=0.65) == {1, 2}


@needs_torch
def test_tokens_of_the_reply_are_penalized_towards_less() -> None:
    import torch

    from services.llm.engines.torch_reply import penalized

    logits = torch.tensor([2.0, -2.0, 1.0])
    assert penalized(logits, [0, 1, 1], 2.0).tolist() == [1.0, -4.0, 1.0]
    assert logits.tolist() == [2.0, -2.0, 1.0]


@needs_torch
async def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    import torch

    model = made_up(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(LoadFailed, match="safetensors"):
        await TransformersEngine(tmp_path, OPTIONS).load()


@needs_torch
async def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    made_up(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "model_type": "unheard-of",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(LoadFailed):
        await TransformersEngine(tmp_path, OPTIONS).load()
    assert not (tmp_path / "ran").exists()


@needs_torch
async def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    made_up(tmp_path, template=None)
    with pytest.raises(LoadFailed, match="no chat template"):
        await TransformersEngine(tmp_path, OPTIONS).load()


@needs_torch
async def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed):
        await TransformersEngine(tmp_path, OPTIONS).load()


@needs_torch
async def test_real_weights_from_gguf_answer() -> None:
    source = sources.resolve(SPEC.source)
    engine = SERVICE.engine(SPEC, source)
    await engine.load()
    text, finished = await said(engine, "What is the capital of France?")
    assert "Paris" in text
    assert finished.reason is FinishReason.END
    await engine.unload()


async def test_a_missing_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(LoadFailed, match="torch, transformers, accelerate or gguf is not installed"):
        await TransformersEngine(tmp_path, OPTIONS).load()


def test_either_a_source_or_a_hub_id_is_needed() -> None:
    for source, options in ((None, {}), (Path("folder"), {"hub_id": "owner/name"})):
        with pytest.raises(InvalidInput, match="hub_id"):
            TransformersEngine(source, options)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"hub_id": "../../etc"}, "options.hub_id"),
        ({"device": "tpu"}, "options.device"),
        ({"dtype": "int4"}, "options.dtype"),
        ({"trust_remote_code": True}, "options.trust_remote_code"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        TransformersEngine(Path("folder"), options)
    assert refused.value.field == field


def test_every_token_that_ends_a_reply_counts() -> None:
    assert end_ids(2, [2, 5], None) == {2, 5}
