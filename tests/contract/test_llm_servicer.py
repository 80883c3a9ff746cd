"""The LLM service on the wire: its grammar with a model that only echoes, and once with the real one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.llm.chat import Chat, Template
from services.llm.engine import Finished, Limits, LlmEngine, Prompt, Sampling, TextDelta
from services.llm.engines.ctranslate2 import CTranslate2Engine, Step
from services.llm.prompts import Fitted
from services.llm.replies import Replies
from services.llm.servicer import SERVICE
from services.runtime import sources
from services.runtime.engine import GENERATION_KEY, SLOT_KEY, Identity
from services.runtime.settings import CATALOG_FOLDER, read_catalog
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from tools.models.prepared import prepare

SPEC = read_catalog(CATALOG_FOLDER / "llm.json")["smollm2-135m"]
IDENTITY = Identity("llm", "parrot", "fake", "sha256:0")
USER, ASSISTANT, SYSTEM = llm_pb2.ROLE_USER, llm_pb2.ROLE_ASSISTANT, llm_pb2.ROLE_SYSTEM
Request = llm_pb2.GenerateRequest
Response = llm_pb2.GenerateResponse


class Letters:
    special: Sequence[str] = ()

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


class Parrot:
    """Says again all that it was told, a letter at a time; what ends with "…" it says for ever."""

    limits = Limits(context_tokens=60, max_tokens=30, max_prompt_chars=200)
    defaults = Sampling(max_tokens=30)

    def __init__(self) -> None:
        template = Template("{% for message in messages %}{{ message.content }}{% endfor %}")
        self._replies = Replies(Chat(template, Letters(), None, {0}), self._tokens, self.limits, most=4)
        self.config: Sampling | None = None
        self.given = 0
        self.closed = asyncio.Event()

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    def generate(self, config: Sampling, prompts: AsyncIterator[Prompt]) -> AsyncGenerator[TextDelta | Finished, None]:
        self.config = config
        return self._replies.to(prompts, config)

    async def _tokens(self, prompt: Fitted, sampling: Sampling) -> AsyncGenerator[int, None]:
        try:
            for token in [*prompt.ids, 0][: sampling.max_tokens]:
                while token == ord("…"):
                    self.given += 1
                    yield token
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0)
                yield token
        finally:
            self.closed.set()


@asynccontextmanager
async def served(engine: LlmEngine) -> AsyncIterator["llm_pb2_grpc.LlmServiceAsyncStub"]:
    server = grpc.aio.server()
    SERVICE.attach(server, engine, IDENTITY)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield llm_pb2_grpc.LlmServiceStub(channel)
    await server.stop(None)


def config(**fields: Any) -> Request:
    return Request(config=llm_pb2.GenerationConfig(**fields))


def prompt(*said: tuple[int, str], turn_id: str = "turn", generation: int = 1) -> Request:
    # Wrong roles are sent on purpose.
    messages = [llm_pb2.Message(role=role, content=content) for role, content in said]  # type: ignore[arg-type]
    return Request(prompt=llm_pb2.Prompt(turn_id=turn_id, generation=generation, messages=messages))


async def answers(
    requests: Iterable[Request], engine: LlmEngine | None = None, metadata: Sequence[tuple[str, str]] = ()
) -> list[Response]:
    async with served(engine or Parrot()) as stub:
        return [response async for response in stub.Generate(iter(requests), metadata=metadata)]


def text_of(responses: Iterable[Response]) -> str:
    return "".join(response.delta.text for response in responses)


async def refusal(*requests: Request) -> tuple[grpc.StatusCode, str]:
    """The status of a call that is refused, and the field that its details name."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await answers(requests)
    # The stubs know calls only; an AioRpcError answers the same questions.
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    bad = error_details_pb2.BadRequest()
    named = [bad.field_violations[0].field for detail in status.details if detail.Unpack(bad)]
    return refused.value.code(), named[0] if named else ""


async def test_the_first_response_tells_the_model_and_its_limits() -> None:
    metadata = ((SLOT_KEY, "candidate"), (GENERATION_KEY, "7"))
    [response] = await answers([config()], metadata=metadata)
    started = response.started
    assert (started.model.model, started.model.slot, started.model.slot_generation) == ("parrot", "candidate", 7)
    assert (started.context_tokens, started.max_tokens, started.max_prompt_chars) == (60, 30, 200)


async def test_the_model_is_told_before_any_prompt_is_sent() -> None:
    async with served(Parrot()) as stub:
        call = stub.Generate()
        await call.write(config())
        started = await call.read()
        assert isinstance(started, Response)
        assert started.WhichOneof("response") == "started"
        await call.done_writing()


async def test_prompts_are_answered_one_after_the_other() -> None:
    one = prompt((USER, "one"), turn_id="a", generation=1)
    two = prompt((USER, "two"), turn_id="b", generation=2)
    _, *responses = await answers([config(), one, two])
    by_turn = [(r.delta.turn_id or r.finished.turn_id, r.delta.generation or r.finished.generation) for r in responses]
    assert by_turn == [("a", 1)] * 4 + [("b", 2)] * 4
    assert text_of(responses) == "onetwo"
    finished = responses[-1].finished
    assert (finished.reason, finished.prompt_tokens, finished.reply_tokens) == (llm_pb2.FINISH_REASON_END, 3, 3)


async def test_deltas_tell_the_time_since_their_prompt() -> None:
    responses = await answers([config(), prompt((USER, "one"))])
    times = [response.delta.engine_ms for response in responses if response.HasField("delta")]
    assert times == sorted(times)
    assert times[0] > 0


async def test_unset_fields_take_the_models_defaults_and_zeros_count_as_set() -> None:
    parrot = Parrot()
    parrot.defaults = Sampling(30, 0.7, 0.9, 40, 1.1, None, ("###",))
    await answers([config()], parrot)
    assert parrot.config == parrot.defaults
    await answers([config(temperature=0, top_k=0, seed=0, max_tokens=5, stop=["a", "b"])], parrot)
    assert parrot.config == Sampling(5, 0.0, 0.9, 0, 1.1, 0, ("a", "b"))


async def test_every_way_to_finish() -> None:
    requests = [config(max_tokens=6, stop=["xyz"])]
    requests += [prompt((USER, text)) for text in ("one", "2 xyz", "and three")]
    responses = await answers(requests)
    reasons = [response.finished.reason for response in responses if response.HasField("finished")]
    assert reasons == [llm_pb2.FINISH_REASON_END, llm_pb2.FINISH_REASON_STOP, llm_pb2.FINISH_REASON_MAX_TOKENS]
    assert text_of(responses) == "one2 and th"


async def test_a_stop_text_is_not_sent() -> None:
    responses = await answers([config(stop=["xyz"]), prompt((USER, "two xyz three"))])
    assert text_of(responses) == "two "
    assert responses[-1].finished.reason == llm_pb2.FINISH_REASON_STOP


async def test_dropped_messages_are_counted() -> None:
    said = [(USER, "x" * 25), (ASSISTANT, "y" * 25), (USER, "now")]
    responses = await answers([config(), prompt(*said)])
    assert responses[-1].finished.dropped_messages == 2
    assert text_of(responses) == "now"


GOOD = prompt((USER, "hi"))


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([GOOD], "request"),
        ([], "request"),
        ([Request()], "request"),
        ([config(), config()], "config"),
        ([config(), GOOD, Request()], "request"),
        ([config(max_tokens=0)], "config.max_tokens"),
        ([config(max_tokens=31)], "config.max_tokens"),
        ([config(temperature=-1)], "config.temperature"),
        ([config(temperature=float("nan"))], "config.temperature"),
        ([config(top_p=0)], "config.top_p"),
        ([config(top_k=-1)], "config.top_k"),
        ([config(repetition_penalty=0)], "config.repetition_penalty"),
        ([config(seed=-1)], "config.seed"),
        ([config(stop=["ok", ""])], "config.stop[1]"),
        ([config(), prompt()], "prompt.messages"),
        ([config(), prompt((USER, ""))], "prompt.messages[0].content"),
        ([config(), prompt((llm_pb2.ROLE_UNSPECIFIED, "hi"))], "prompt.messages[0].role"),
        ([config(), prompt((9, "hi"))], "prompt.messages[0].role"),
        ([config(), prompt((ASSISTANT, "hello"))], "prompt.messages[0].role"),
        ([config(), prompt((USER, "hi"), (ASSISTANT, "hello"), (ASSISTANT, "you"))], "prompt.messages[1].role"),
        ([config(), prompt((USER, "hi"), (SYSTEM, "be kind"), (USER, "hi"))], "prompt.messages[1].role"),
        ([config(), prompt((USER, "x" * 201))], "prompt.messages"),
        ([config(), prompt((USER, "x" * 31))], "prompt.messages"),
        ([config(), prompt((USER, "hi"), generation=-1)], "prompt.generation"),
    ],
)
async def test_what_is_wrong_is_refused_by_its_name(requests: list[Request], field: str) -> None:
    assert await refusal(*requests) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_replies_before_a_bad_prompt_are_not_lost() -> None:
    got: list[Response] = []
    async with served(Parrot()) as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            async for response in stub.Generate(iter([config(), GOOD, prompt()])):
                got.append(response)
    assert text_of(got) == "hi"
    assert got[-1].HasField("finished")


async def test_more_replies_than_the_engine_takes_are_refused_with_a_delay() -> None:
    parrot = Parrot()
    async with served(parrot) as stub:
        running = [stub.Generate(endless()) for _ in range(4)]
        for call in running:
            await first_text(call)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            _ = [response async for response in stub.Generate(iter([config(), GOOD]))]
        for call in running:
            call.cancel()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    # The stubs know calls only; an AioRpcError answers the same questions.
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() > 0


async def endless() -> AsyncIterator[Request]:
    """One prompt that is answered for ever, on a stream that stays open."""
    yield config()
    yield prompt((USER, "…"))
    await asyncio.Event().wait()


async def first_text(call: Any) -> None:
    async for response in call:
        if response.HasField("delta"):
            return


async def test_cancelling_the_call_closes_the_reply() -> None:
    parrot = Parrot()
    async with served(parrot) as stub:
        call = stub.Generate(endless())
        await first_text(call)
        call.cancel()
        await asyncio.wait_for(parrot.closed.wait(), 10)
        given = parrot.given
        await asyncio.sleep(0.1)
        assert parrot.given == given


class Counting(CTranslate2Engine):
    """The real engine, knowing how many tokens its model has made and how many replies run."""

    steps = 0
    running = 0

    def _run(self, prompt: Fitted, sampling: Sampling, step: Step) -> None:
        def counted(result: Any) -> bool:
            self.steps += 1
            return step(result)

        self.running += 1
        super()._run(prompt, sampling, counted)
        self.running -= 1


@pytest.fixture
async def real() -> AsyncIterator[Counting]:
    prepare(SPEC.source, SPEC.sha256, lambda done, total: None)
    engine = Counting(sources.resolve(SPEC.source), {**SPEC.options, "workers": 2})
    await engine.load()
    await SERVICE.warm_up(engine)
    yield engine
    await engine.unload()


async def test_the_real_model_answers_two_turns(real: Counting) -> None:
    question = (USER, "What is the capital of France?")
    first = prompt(question, turn_id="a")
    _, *responses = await answers([config(), first], real)
    reply = text_of(responses)
    assert "Paris" in reply
    follow_up = prompt(question, (ASSISTANT, reply), (USER, "Say hello."), turn_id="b")
    _, *responses = await answers([config(), first, follow_up], real)
    assert text_of(responses).startswith(reply)
    assert [response.finished.turn_id for response in responses if response.HasField("finished")] == ["a", "b"]


async def test_the_real_model_goes_on_with_a_reply(real: Counting) -> None:
    question = (USER, "What is the capital of France?")
    _, *responses = await answers([config(temperature=0), prompt(question)], real)
    reply = text_of(responses)
    begun = reply[: reply.index("Paris")]
    _, *responses = await answers([config(temperature=0), prompt(question, (ASSISTANT, begun))], real)
    assert begun + text_of(responses) == reply


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


async def test_cancelling_the_call_stops_the_real_model(real: Counting) -> None:
    rambling = [
        config(max_tokens=200, repetition_penalty=1, stop=["never said"]),
        prompt(
            (SYSTEM, "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
            (USER, "Write a very long story about a dragon."),
        ),
    ]

    async def one() -> AsyncIterator[Request]:
        for request in rambling:
            yield request
        await asyncio.Event().wait()

    async with served(real) as stub:
        [*_, whole] = [response async for response in stub.Generate(iter(rambling))]
        assert whole.finished.reply_tokens == 200
        before = real.steps
        call = stub.Generate(one())
        await first_text(call)
        call.cancel()
        await asyncio.wait_for(until(lambda: real.running == 0), 10)
        assert real.steps - before < 100
