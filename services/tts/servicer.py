"""TtsService on the wire: protos to domain types and back, and what the runtime needs to know of the service."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import grpc

from services.runtime.engine import Identity, Service
from services.runtime.errors import InvalidInput, LoadFailed, NotFound
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from services.runtime.tracing import StreamTrace
from services.tts import validation
from services.tts.delivery import Delivery
from services.tts.engine import (
    Audio,
    Clause,
    ClauseEnd,
    Emotion,
    Expression,
    Speech,
    Spoken,
    SynthesisConfig,
    TtsEngine,
)
from services.tts.tracked import TrackedClauses
from talkmesh.audio.v1 import audio_pb2, speech_pb2
from talkmesh.tts.v1 import tts_pb2, tts_pb2_grpc

EMOTIONS = {
    speech_pb2.EMOTION_UNSPECIFIED: Emotion.NEUTRAL,
    speech_pb2.EMOTION_NEUTRAL: Emotion.NEUTRAL,
    speech_pb2.EMOTION_HAPPY: Emotion.HAPPY,
    speech_pb2.EMOTION_SAD: Emotion.SAD,
    speech_pb2.EMOTION_ANGRY: Emotion.ANGRY,
    speech_pb2.EMOTION_SURPRISED: Emotion.SURPRISED,
    speech_pb2.EMOTION_FEARFUL: Emotion.FEARFUL,
    speech_pb2.EMOTION_DISGUSTED: Emotion.DISGUSTED,
}
PROTO_EMOTIONS = {emotion: proto for proto, emotion in EMOTIONS.items()}
RATES_HZ = range(8000, 48001)
Response = tts_pb2.SynthesizeResponse


class TtsServicer(tts_pb2_grpc.TtsServiceServicer):
    """Speaks the clauses of each call with one engine."""

    def __init__(self, engine: TtsEngine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity

    @told_as_status
    async def Synthesize(
        self, requests: AsyncIterator[tts_pb2.SynthesizeRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Response]:
        first, data = await config_and_data(requests, tts_pb2.SynthesisConfig)
        wire, engine = first.config, self._engine
        config = config_of(wire, engine)
        rate_hz = wire.sample_rate_hz or engine.sample_rate_hz
        yield stamped(wire, self._started(context, rate_hz))
        delivery = Delivery(engine.sample_rate_hz, rate_hz)
        tracked = TrackedClauses(StreamTrace(self._identity.serving(context)), rate_hz)
        async with aclosing(engine.synthesize(config, clauses(data, engine.max_clause_chars))) as spoken:
            async for response in delivered(spoken, delivery):
                tracked.note(stamped(wire, response))
                yield response

    def _started(self, context: grpc.aio.ServicerContext[Any, Any], rate_hz: int) -> Response:
        return Response(
            started=tts_pb2.SynthesisStarted(
                model=self._identity.serving(context),
                sample_rate_hz=rate_hz,
                voices=self._engine.voices,
                languages=self._engine.languages,
                phonemes=self._engine.phonemes,
                max_clause_chars=self._engine.max_clause_chars,
            )
        )


def config_of(config: tts_pb2.SynthesisConfig, engine: TtsEngine) -> SynthesisConfig:
    """What a call asks of the engine. Raises NotFound for a voice it has not, InvalidInput for anything else wrong."""
    rate_hz, speaking_rate = config.sample_rate_hz, config.speaking_rate or 1.0
    if config.generation < 0:
        raise InvalidInput("config.generation", f"{config.generation} is negative", "0 or more")
    if config.voice and config.voice not in engine.voices:
        raise NotFound("voice", config.voice, engine.voices)
    if config.language and config.language.lower() not in {language.lower() for language in engine.languages}:
        problem = f"{config.language!r} is not spoken by this voice"
        raise InvalidInput("config.language", problem, ", ".join(engine.languages))
    if rate_hz and rate_hz not in RATES_HZ:
        raise InvalidInput("config.sample_rate_hz", f"is {rate_hz}", "8000 to 48000, or 0 for the voice's own")
    if not 0.5 <= speaking_rate <= 2:
        raise InvalidInput("config.speaking_rate", f"is {speaking_rate:g}", "0.5 to 2, or 0 for the voice's own")
    return SynthesisConfig(config.voice, config.language, speaking_rate)


async def clauses(data: AsyncIterator[tts_pb2.SynthesizeRequest], max_chars: int) -> AsyncGenerator[Clause, None]:
    """The clauses of a call, each stamped with when it was read: a clause behind another waits unread."""
    newest = -1
    async for request in data:
        clause = request.clause
        if clause.index <= newest:
            expected = f"more than {newest}" if newest >= 0 else "0 or more"
            raise InvalidInput("clause.index", f"is {clause.index}", expected)
        newest = clause.index
        if not clause.text.strip():
            raise InvalidInput("clause.text", "is empty", "text to speak")
        if len(clause.text) > max_chars:
            raise InvalidInput("clause.text", f"has {len(clause.text)} characters", f"at most {max_chars}")
        yield Clause(clause.index, clause.text, expression_of(clause.expression), time.perf_counter())


def expression_of(expression: speech_pb2.Expression) -> Expression:
    if expression.emotion not in EMOTIONS:
        names = ", ".join(speech_pb2.Emotion.keys()[1:])
        raise InvalidInput("clause.expression.emotion", f"{expression.emotion} is not known", names)
    if not 0 <= expression.intensity <= 1:
        raise InvalidInput("clause.expression.intensity", f"is {expression.intensity:g}", "0 to 1")
    return Expression(EMOTIONS[expression.emotion], expression.intensity)


async def delivered(spoken: AsyncIterator[Spoken], delivery: Delivery) -> AsyncIterator[Response]:
    """The responses that tell what an engine gives."""
    start = delivery.clock
    async for part in spoken:
        match part:
            case Speech():
                yield Response(speech=announced(part, delivery))
            case Audio():
                for chunk in chunks(part, delivery):
                    yield Response(audio=chunk)
            case ClauseEnd():
                done = tts_pb2.ClauseDone(clause_index=part.clause.index, start_sample=start, end_sample=delivery.clock)
                yield Response(done=done)
                start = delivery.clock


def announced(speech: Speech, delivery: Delivery) -> tts_pb2.ClauseSpeech:
    start = delivery.clock
    phonemes, words = delivery.announce(speech)
    expression = speech.clause.expression
    return tts_pb2.ClauseSpeech(
        clause_index=speech.clause.index,
        start_sample=start,
        phonemes=[
            speech_pb2.PhonemeSpan(phoneme=s.phoneme, start_sample=s.start, end_sample=s.end, stress=s.stress)
            for s in phonemes
        ],
        words=[speech_pb2.WordSpan(word=s.word, start_sample=s.start, end_sample=s.end) for s in words],
        expression=speech_pb2.Expression(emotion=PROTO_EMOTIONS[expression.emotion], intensity=expression.intensity),
        engine_ms=(time.perf_counter() - speech.clause.arrived_s) * 1000,
    )


def chunks(audio: Audio, delivery: Delivery) -> Iterator[audio_pb2.AudioChunk]:
    return (audio_pb2.AudioChunk(start_sample=start, data=data) for start, data in delivery.push(audio.samples))


def stamped(config: tts_pb2.SynthesisConfig, response: Response) -> Response:
    """`response` with the turn and generation that the call is for."""
    response.turn_id, response.generation = config.turn_id, config.generation
    return response


def attach(server: grpc.aio.Server, engine: TtsEngine, identity: Identity) -> None:
    """Add the servicer of `engine` to `server`."""
    tts_pb2_grpc.add_TtsServiceServicer_to_server(TtsServicer(engine, identity), server)


async def warm_up(engine: TtsEngine) -> None:
    """Say hello. Raises LoadFailed if nothing is heard, or not what was announced."""

    async def hello() -> AsyncGenerator[Clause, None]:
        yield Clause(0, "Hello, who are you?")

    announced = heard = 0
    async with aclosing(engine.synthesize(SynthesisConfig(), hello())) as spoken:
        async for part in spoken:
            announced += part.samples if isinstance(part, Speech) else 0
            heard += len(part.samples) if isinstance(part, Audio) else 0
    if not heard or heard != announced:
        raise LoadFailed(f"a greeting was announced as {announced} samples and has {heard}")


SERVICE = Service(
    name="tts",
    grpc_name=tts_pb2.DESCRIPTOR.services_by_name["TtsService"].full_name,
    engines={
        "hibari": "services.tts.engines.hibari:HibariEngine",
        "vits": "services.tts.engines.vits:VitsEngine",
    },
    attach=attach,
    warm_up=warm_up,
    interface=validation.interface,
    measure=validation.measure,
)
