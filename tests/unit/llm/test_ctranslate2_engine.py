"""The CTranslate2 engine with the catalog's model."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.llm.engine import Finished, FinishReason, Limits, Message, Prompt, Role, Sampling, TextDelta
from services.llm.engines.ctranslate2 import CTranslate2Engine, Step
from services.llm.prompts import Fitted
from services.llm.servicer import SERVICE, warm_up
from services.runtime import sources
from services.runtime.errors import Busy, InvalidInput, LoadFailed, Unavailable
from services.runtime.settings import CATALOG_FOLDER, read_catalog
from tools.models.prepared import prepare

SPEC = read_catalog(CATALOG_FOLDER / "llm.json")["smollm2-135m"]
LONG = "Tell me everything about the ocean and the animals in it."


class Counting(CTranslate2Engine):
    """The engine itself, knowing how many tokens its model has made."""

    steps = 0

    def _generate(self, generator: Any, prompt: Fitted, sampling: Sampling, step: Step) -> None:
        def counted(result: Any) -> bool:
            self.steps += 1
            return step(result)

        super()._generate(generator, prompt, sampling, counted)


@pytest.fixture(scope="module")
def folder() -> Path:
    prepare(SPEC.source, SPEC.sha256, lambda done, total: None)
    path = sources.resolve(SPEC.source)
    assert path is not None
    return path


@contextlib.contextmanager
def loaded(folder: Path, options: Mapping[str, Any]) -> Iterator[Counting]:
    engine = Counting(folder, options)
    asyncio.run(engine.load())
    yield engine
    asyncio.run(engine.unload())


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Counting]:
    with loaded(folder, SPEC.options) as engine:
        yield engine


@pytest.fixture(scope="module")
def exact(folder: Path) -> Iterator[Counting]:
    """In int8 a reply depends on how its prompt was read: a difference in the last bit can grow to another word."""
    with loaded(folder, {**SPEC.options, "compute_type": "float32"}) as engine:
        yield engine


async def prompts(*texts: str) -> AsyncIterator[Prompt]:
    for text in texts:
        yield Prompt(text, 0, (Message(Role.USER, text),))


async def said(engine: CTranslate2Engine, text: str, **sampling: Any) -> tuple[str, Finished]:
    config = replace(engine.defaults, **sampling)
    *deltas, finished = [output async for output in engine.generate(config, prompts(text))]
    assert isinstance(finished, Finished)
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), finished


async def test_it_answers(engine: Counting) -> None:
    text, finished = await said(engine, "What is the capital of France?")
    assert "Paris" in text
    assert "<|im_end|>" not in text
    assert finished.reason is FinishReason.END
    assert 0 < finished.reply_tokens < engine.defaults.max_tokens


def test_limits_and_defaults_are_the_catalogs(engine: Counting) -> None:
    assert engine.limits == Limits(512, 256, 32_000)
    assert engine.defaults == Sampling(96, repetition_penalty=1.1, stop=("\n\n",))


async def test_a_greedy_reply_does_not_depend_on_the_kept_prefix(exact: Counting, folder: Path) -> None:
    with_prefix, _ = await said(exact, LONG, max_tokens=24)
    assert (await said(exact, LONG, max_tokens=24))[0] == with_prefix
    bare = Counting(folder, {**SPEC.options, "compute_type": "float32", "cached_prefixes": 0, "workers": 1})
    await bare.load()
    assert (await said(bare, LONG, max_tokens=24))[0] == with_prefix
    await bare.unload()


async def test_a_greedy_reply_goes_on_as_it_was_wherever_it_was_cut(exact: Counting) -> None:
    """With a penalty on what was said already."""
    config = replace(exact.defaults, max_tokens=30, stop=())
    *deltas, _ = [output async for output in exact.generate(config, prompts(LONG))]
    pieces = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    whole = "".join(pieces)
    assert len(pieces) > 20

    async def begun(text: str) -> AsyncIterator[Prompt]:
        yield Prompt("t", 0, (Message(Role.USER, LONG), Message(Role.ASSISTANT, text)))

    for cut in range(1, len(pieces), 5):
        text = "".join(pieces[:cut])
        for told in (text, text + " ") if pieces[cut].startswith(" ") else (text,):
            rest = replace(config, max_tokens=len(pieces) - cut)
            *more, finished = [output async for output in exact.generate(rest, begun(told))]
            assert told + "".join(delta.text for delta in more if isinstance(delta, TextDelta)) == whole
            assert isinstance(finished, Finished)
            assert finished.reply_tokens == len(pieces) - cut


async def test_a_begun_reply_can_be_at_its_end(engine: Counting) -> None:
    text, _ = await said(engine, "What is the capital of France?")

    async def begun() -> AsyncIterator[Prompt]:
        question = Message(Role.USER, "What is the capital of France?")
        yield Prompt("t", 0, (question, Message(Role.ASSISTANT, text)))

    (finished,) = [output async for output in engine.generate(engine.defaults, begun())]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.reply_tokens) == (FinishReason.END, 0)


async def test_closing_stops_a_begun_reply_within_a_token(engine: Counting) -> None:
    async def begun() -> AsyncIterator[Prompt]:
        yield Prompt("t", 0, (Message(Role.USER, LONG), Message(Role.ASSISTANT, "The ocean " * 20)))

    before = engine.steps
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            async for _ in engine.generate(replace(engine.defaults, max_tokens=200, stop=()), begun()):
                pass
    await asyncio.sleep(0.3)
    stopped = engine.steps
    await asyncio.sleep(0.3)
    assert before < stopped == engine.steps


async def test_ten_at_once_each_get_their_own_answer(engine: Counting) -> None:
    questions = [f"Repeat after me: the number is {number}." for number in range(10)]
    alone = [(await said(engine, question, max_tokens=12))[0] for question in questions]
    together = await asyncio.gather(*(said(engine, question, max_tokens=12) for question in questions))
    assert [text for text, _ in together] == alone
    assert len(set(alone)) > 5


async def test_replies_go_on_side_by_side(engine: Counting) -> None:
    order: list[str] = []

    async def listen(text: str) -> None:
        async for _ in engine.generate(replace(engine.defaults, max_tokens=30, stop=()), prompts(text)):
            order.append(text)

    await asyncio.gather(listen(LONG), listen(LONG + " Please."))
    begun = {text: order.index(text) for text in order}
    ended = {text: len(order) - order[::-1].index(text) for text in order}
    assert max(begun.values()) < min(ended.values())


async def test_closing_stops_the_model_within_a_token(engine: Counting) -> None:
    outputs = engine.generate(replace(engine.defaults, max_tokens=200, stop=()), prompts(LONG))
    for _ in range(3):
        await anext(outputs)
    await outputs.aclose()
    made = engine.steps
    await said(engine, "Hello!", max_tokens=1)
    await said(engine, "Hello!", max_tokens=1)
    assert engine.steps - made <= 2 + 1


async def test_a_reply_cancelled_while_it_waits_never_runs(folder: Path) -> None:
    engine = Counting(folder, {**SPEC.options, "workers": 1})
    await engine.load()
    first = engine.generate(replace(engine.defaults, max_tokens=40, stop=()), prompts(LONG))
    await anext(first)
    waiting = asyncio.create_task(said(engine, LONG))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    rest = [output async for output in first]
    assert isinstance(rest[-1], Finished)
    touched = 1
    await engine.unload()
    assert engine.steps == touched + rest[-1].reply_tokens


async def test_unloading_ends_a_running_reply_and_says_so(folder: Path) -> None:
    engine = Counting(folder, SPEC.options)
    await engine.load()
    outputs = engine.generate(replace(engine.defaults, max_tokens=60, stop=()), prompts(LONG))
    await anext(outputs)
    before = engine.steps
    await engine.unload()
    assert engine.steps - before <= 2
    with pytest.raises(Unavailable):
        _ = [output async for output in outputs]


async def test_a_seed_repeats_a_reply_and_another_gives_another(engine: Counting) -> None:
    drawn = {"temperature": 1.0, "top_p": 0.95, "max_tokens": 16}
    first, again, other = [(await said(engine, "Tell me a story.", seed=seed, **drawn))[0] for seed in (7, 7, 8)]
    assert first == again
    assert first != other


async def test_without_a_seed_drawn_replies_differ(engine: Counting) -> None:
    replies = [(await said(engine, "Tell me a story.", temperature=1.0, max_tokens=16))[0] for _ in range(3)]
    assert len(set(replies)) > 1


async def test_one_candidate_is_greedy_at_any_temperature(engine: Counting) -> None:
    greedy, _ = await said(engine, LONG, max_tokens=12)
    assert (await said(engine, LONG, max_tokens=12, temperature=5.0, top_k=1))[0] == greedy


async def test_a_stop_text_across_tokens_is_never_told(engine: Counting) -> None:
    whole, _ = await said(engine, "What is the capital of France?")
    text, finished = await said(engine, "What is the capital of France?", stop=("tal of Fra",))
    assert text == whole.partition("tal of Fra")[0]
    assert finished.reason is FinishReason.STOP


async def test_characters_of_many_bytes_come_whole(engine: Counting) -> None:
    deltas: list[str] = []
    async for output in engine.generate(engine.defaults, prompts("Reply with emoji only: 😀🌍🎉")):
        if isinstance(output, TextDelta):
            deltas.append(output.text)
    assert any(ord(letter) > 0xFFFF for letter in "".join(deltas))
    assert "\ufffd" not in "".join(deltas)


async def test_a_long_history_is_cut_to_the_context(engine: Counting) -> None:
    old = [Message(role, "word " * 100) for _ in range(10) for role in (Role.USER, Role.ASSISTANT)]

    async def asked() -> AsyncIterator[Prompt]:
        yield Prompt("t", 0, (*old, Message(Role.USER, "What is the capital of France?")))

    finished = [output async for output in engine.generate(engine.defaults, asked())][-1]
    assert isinstance(finished, Finished)
    assert 0 < finished.dropped_messages < 20
    assert finished.prompt_tokens + engine.defaults.max_tokens <= engine.limits.context_tokens


async def test_a_question_longer_than_the_context_is_refused(engine: Counting) -> None:
    with pytest.raises(InvalidInput, match="tokens without any history"):
        await said(engine, "word " * 600)


async def test_too_many_waiting_replies_are_refused(folder: Path) -> None:
    engine = Counting(folder, {**SPEC.options, "workers": 1, "waiting": 1})
    await engine.load()
    streams = [engine.generate(engine.defaults, prompts(LONG)) for _ in range(2)]
    running = asyncio.create_task(anext(streams[0]))
    waiting = asyncio.create_task(anext(streams[1]))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await said(engine, LONG)
    await asyncio.gather(running, waiting, return_exceptions=True)
    await streams[0].aclose()
    await streams[1].aclose()
    await engine.unload()


async def test_warming_up_says_something(engine: Counting) -> None:
    await warm_up(engine)


def test_the_service_makes_this_engine(folder: Path) -> None:
    assert isinstance(SERVICE.engine(SPEC, folder), CTranslate2Engine)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"threads": 0}, "options.threads"),
        ({"compute_type": "int4"}, "options.compute_type"),
        ({"beam": 2}, "options.beam"),
    ],
)
def test_a_wrong_option_is_refused_by_name(folder: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        CTranslate2Engine(folder, options)
    assert refused.value.field == field


def test_a_source_is_needed() -> None:
    with pytest.raises(InvalidInput, match="source"):
        CTranslate2Engine(None, {})


async def test_a_context_longer_than_the_models_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"options\.context_tokens"):
        await CTranslate2Engine(folder, {"context_tokens": 100_000}).load()


def copied(folder: Path, to: Path) -> Path:
    """The model's small files, without its weights."""
    for name in ("chat.json", "tokenizer.json", "config.json", "vocabulary.json"):
        (to / name).write_bytes((folder / name).read_bytes())
    return to


@pytest.mark.parametrize("name", ["chat.json", "tokenizer.json", "model.bin"])
async def test_a_missing_file_is_told_by_its_name(folder: Path, tmp_path: Path, name: str) -> None:
    broken = copied(folder, tmp_path)
    (broken / name).unlink(missing_ok=True)
    with pytest.raises(LoadFailed, match=name):
        await CTranslate2Engine(broken, {}).load()


async def test_a_broken_chat_file_is_told(folder: Path, tmp_path: Path) -> None:
    broken = copied(folder, tmp_path)
    (broken / "chat.json").write_text(json.dumps({"template": "", "bos_token": "", "eos_token": ""}))
    with pytest.raises(LoadFailed, match="context_tokens missing"):
        await CTranslate2Engine(broken, {}).load()
