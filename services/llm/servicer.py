"""LlmService on the wire: protos to domain types and back, and what the runtime needs to know of the service."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc

from services.llm import sampling, validation
from services.llm.engine import Finished, FinishReason, LlmEngine, Message, Prompt, Role, Sampling, TextDelta
from services.llm.tracked import tracked
from services.runtime.engine import Identity, Service
from services.runtime.errors import InvalidInput, LoadFailed
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from services.runtime.tracing import StreamTrace
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc

ROLES = {
    llm_pb2.ROLE_SYSTEM: Role.SYSTEM,
    llm_pb2.ROLE_USER: Role.USER,
    llm_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
}
REASONS = {
    FinishReason.END: llm_pb2.FINISH_REASON_END,
    FinishReason.STOP: llm_pb2.FINISH_REASON_STOP,
    FinishReason.MAX_TOKENS: llm_pb2.FINISH_REASON_MAX_TOKENS,
}


class LlmServicer(llm_pb2_grpc.LlmServiceServicer):
    """Answers the prompts of each stream with one engine."""

    def __init__(self, engine: LlmEngine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity

    @told_as_status
    async def Generate(
        self, requests: AsyncIterator[llm_pb2.GenerateRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[llm_pb2.GenerateResponse]:
        first, data = await config_and_data(requests, llm_pb2.GenerationConfig)
        config = sampling_of(first.config, self._engine)
        yield self._started(context)
        with tracked(StreamTrace(self._identity.serving(context))) as replies:
            async with aclosing(self._engine.generate(config, prompts(data))) as outputs:
                async for output in outputs:
                    told = response(output)
                    replies.note(told)
                    yield told

    def _started(self, context: grpc.aio.ServicerContext[Any, Any]) -> llm_pb2.GenerateResponse:
        limits = self._engine.limits
        return llm_pb2.GenerateResponse(
            started=llm_pb2.GenerationStarted(
                model=self._identity.serving(context),
                context_tokens=limits.context_tokens,
                max_tokens=limits.max_tokens,
                max_prompt_chars=limits.max_prompt_chars,
            )
        )


def sampling_of(config: llm_pb2.GenerationConfig, engine: LlmEngine) -> Sampling:
    """The sampling of a stream: the model's defaults but for what `config` sets. Raises InvalidInput."""
    chosen: dict[str, Any] = {field.name: value for field, value in config.ListFields() if field.name != "stop"}
    if config.stop:
        chosen["stop"] = tuple(config.stop)
    return sampling.check(replace(engine.defaults, **chosen), engine.limits.max_tokens)


async def prompts(data: AsyncIterator[llm_pb2.GenerateRequest]) -> AsyncIterator[Prompt]:
    """The prompts of a stream, each stamped with when it was read: a prompt behind another waits unread."""
    async for request in data:
        prompt = request.prompt
        if prompt.generation < 0:
            raise InvalidInput("prompt.generation", f"{prompt.generation} is negative", "0 or more")
        messages = tuple(message_of(message, index) for index, message in enumerate(prompt.messages))
        yield Prompt(prompt.turn_id, prompt.generation, messages, arrived_s=time.perf_counter())


def message_of(message: llm_pb2.Message, index: int) -> Message:
    if message.role not in ROLES:
        field = f"prompt.messages[{index}].role"
        raise InvalidInput(field, f"{message.role} is not known", ", ".join(llm_pb2.Role.keys()[1:]))
    return Message(ROLES[message.role], message.content)


def response(output: TextDelta | Finished) -> llm_pb2.GenerateResponse:
    turn_id, generation = output.prompt.turn_id, output.prompt.generation
    if isinstance(output, TextDelta):
        engine_ms = (time.perf_counter() - output.prompt.arrived_s) * 1000
        delta = llm_pb2.TextDelta(turn_id=turn_id, generation=generation, text=output.text, engine_ms=engine_ms)
        return llm_pb2.GenerateResponse(delta=delta)
    finished = llm_pb2.Finished(
        turn_id=turn_id,
        generation=generation,
        reason=REASONS[output.reason],
        prompt_tokens=output.prompt_tokens,
        reply_tokens=output.reply_tokens,
        dropped_messages=output.dropped_messages,
    )
    return llm_pb2.GenerateResponse(finished=finished)


def attach(server: grpc.aio.Server, engine: LlmEngine, identity: Identity) -> None:
    llm_pb2_grpc.add_LlmServiceServicer_to_server(LlmServicer(engine, identity), server)


async def warm_up(engine: LlmEngine) -> None:
    """Answer a greeting, which also makes the model read its system message. Raises LoadFailed if it says nothing."""

    async def greeting() -> AsyncIterator[Prompt]:
        yield Prompt("warm-up", 0, (Message(Role.USER, "Hello!"),))

    outputs = [output async for output in engine.generate(replace(engine.defaults, max_tokens=4), greeting())]
    if not any(isinstance(output, TextDelta) for output in outputs):
        raise LoadFailed("the model answers a greeting with nothing")


SERVICE = Service(
    name="llm",
    grpc_name="talkmesh.llm.v1.LlmService",
    engines={
        "ctranslate2": "services.llm.engines.ctranslate2:CTranslate2Engine",
        "transformers": "services.llm.engines.transformers:TransformersEngine",
    },
    attach=attach,
    warm_up=warm_up,
    interface=validation.interface,
    measure=validation.measure,
)
