"""AnimationService on the wire: protos to domain types and back, and what the runtime needs to know of the service."""

import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from fractions import Fraction
from typing import Any

import grpc
import numpy as np

from services.animation import validation
from services.animation.engine import (
    Advance,
    AnimationConfig,
    AnimationEngine,
    Expression,
    Frame,
    Input,
    Interrupt,
    PhonemeSpan,
    Speech,
    SpeechAudio,
)
from services.runtime import priority
from services.runtime.engine import Identity, Service
from services.runtime.errors import InvalidInput, LoadFailed, NotFound
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from services.runtime.tracing import StreamTrace
from talkmesh.animation.v1 import animation_pb2, animation_pb2_grpc
from talkmesh.audio.v1 import speech_pb2

RATES_HZ = range(8000, 48001)
MOST_FPS = 60
FARTHEST_ADVANCE_S = 600
FARTHEST_SPEECH_S = 600
LONGEST_SPEECH_S = 300
MOST_PHONEMES = 6000
"""In a clause: the longest, at twenty a second."""
Request = animation_pb2.AnimateRequest
Response = animation_pb2.AnimateResponse


class AnimationServicer(animation_pb2_grpc.AnimationServiceServicer):
    """Moves the face of each call with one engine."""

    def __init__(self, engine: AnimationEngine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity

    @told_as_status
    async def Animate(
        self, requests: AsyncIterator[Request], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Response]:
        first, data = await config_and_data(requests, animation_pb2.AnimationConfig)
        config = config_of(first.config, self._engine)
        yield Response(started=self._started(context, config))
        trace = StreamTrace(self._identity.serving(context))
        async with (
            aclosing(inputs(data, config)) as given,
            aclosing(self._engine.animate(config, given)) as frames,
        ):
            async for frame in frames:
                trace.first("animation.animate", frame.turn_id, frame.engine_ms)
                yield Response(frame=frame_proto(frame))

    def _started(
        self, context: grpc.aio.ServicerContext[Any, Any], config: AnimationConfig
    ) -> animation_pb2.AnimationStarted:
        return animation_pb2.AnimationStarted(
            model=self._identity.serving(context),
            blendshape_names=self._engine.blendshape_names,
            fps_numerator=config.fps.numerator,
            fps_denominator=config.fps.denominator,
            phonemes=self._engine.phonemes,
            styles=self._engine.styles,
        )


def config_of(config: animation_pb2.AnimationConfig, engine: AnimationEngine) -> AnimationConfig:
    """What a call asks for. Raises InvalidInput naming the field, and NotFound for an unknown style."""
    if config.sample_rate_hz not in RATES_HZ:
        raise InvalidInput("config.sample_rate_hz", f"is {config.sample_rate_hz}", "8000 to 48000")
    numerator, denominator = config.fps_numerator or 25, config.fps_denominator or 1
    if numerator < 1 or denominator < 1 or not 1 <= Fraction(numerator, denominator) <= MOST_FPS:
        raise InvalidInput("config.fps_numerator", f"{numerator}/{denominator} frames a second", f"1 to {MOST_FPS}")
    not_negative("config.start_sample", config.start_sample)
    if config.style and config.style not in engine.styles:
        raise NotFound("style", config.style, engine.styles)
    style = config.style or engine.default_style
    return AnimationConfig(
        config.sample_rate_hz, Fraction(numerator, denominator), config.seed, style, config.start_sample
    )


async def inputs(data: AsyncIterator[Request], config: AnimationConfig) -> AsyncGenerator[Input, None]:
    """The inputs of a call, each checked. Raises InvalidInput naming the field."""
    position = config.start
    async for request in data:
        match request.WhichOneof("request"):
            case "speech":
                speech = speech_of(request.speech, config)
                near("speech.end_sample", speech.end, position, config)
                yield speech
            case "audio":
                audio = audio_of(request.audio)
                near("audio.audio.start_sample", audio.start + len(audio.samples), position, config)
                yield audio
            case "advance":
                position = advanced(request.advance.until_sample, position, config)
                yield Advance(position)
            case "interrupt":
                interrupt = request.interrupt
                not_negative("interrupt.at_sample", interrupt.at_sample)
                near("interrupt.at_sample", interrupt.at_sample, position, config)
                not_negative("interrupt.generation", interrupt.generation)
                yield Interrupt(interrupt.generation, interrupt.at_sample)


def advanced(until: int, position: int, config: AnimationConfig) -> int:
    if until < position:
        raise InvalidInput("advance.until_sample", f"{until} lies before {position}", "a clock that does not go back")
    if until - position > FARTHEST_ADVANCE_S * config.sample_rate_hz:
        raise InvalidInput(
            "advance.until_sample", f"{until} is too far ahead of {position}", f"at most {FARTHEST_ADVANCE_S} s"
        )
    return until


def speech_of(speech: animation_pb2.Speech, config: AnimationConfig) -> Speech:
    named("speech.turn_id", speech.turn_id)
    not_negative("speech.start_sample", speech.start_sample)
    not_negative("speech.generation", speech.generation)
    longest = LONGEST_SPEECH_S * config.sample_rate_hz
    if not 0 <= speech.end_sample - speech.start_sample <= longest:
        problem = f"{speech.end_sample} for a clause that starts at {speech.start_sample}"
        raise InvalidInput("speech.end_sample", problem, f"the start or later, at most {LONGEST_SPEECH_S} s")
    expression = expression_of(speech.expression, "speech.expression")
    spans = tuple(tiling(speech))
    return Speech(speech.turn_id, speech.generation, speech.start_sample, speech.end_sample, spans, expression)


def tiling(speech: animation_pb2.Speech) -> list[PhonemeSpan]:
    """The clause's phonemes, which must follow one another from its start to its end."""
    if len(speech.phonemes) > MOST_PHONEMES:
        raise InvalidInput("speech.phonemes", f"{len(speech.phonemes)} of them", f"at most {MOST_PHONEMES}")
    spans, at = [], speech.start_sample
    for index, span in enumerate(speech.phonemes):
        if span.start_sample != at:
            expected = f"{at}, where the one before it ended" if index else f"{at}, the clause's start"
            raise InvalidInput(f"speech.phonemes[{index}].start_sample", f"is {span.start_sample}", expected)
        if not span.start_sample <= span.end_sample <= speech.end_sample:
            expected = f"{span.start_sample} to {speech.end_sample}"
            raise InvalidInput(f"speech.phonemes[{index}].end_sample", f"is {span.end_sample}", expected)
        if not 0 <= span.stress <= 2:
            raise InvalidInput(f"speech.phonemes[{index}].stress", f"is {span.stress}", "0, 1 or 2")
        spans.append(PhonemeSpan(span.phoneme, span.start_sample, span.end_sample, span.stress))
        at = span.end_sample
    if spans and at != speech.end_sample:
        expected = f"{speech.end_sample}, the clause's end"
        raise InvalidInput(f"speech.phonemes[{len(spans) - 1}].end_sample", f"is {at}", expected)
    return spans


def audio_of(audio: animation_pb2.SpeechAudio) -> SpeechAudio:
    not_negative("audio.audio.start_sample", audio.audio.start_sample)
    not_negative("audio.generation", audio.generation)
    if len(audio.audio.data) % 2:
        raise InvalidInput("audio.audio.data", f"has {len(audio.audio.data)} bytes", "whole 16 bit samples")
    named("audio.turn_id", audio.turn_id)
    samples = np.frombuffer(audio.audio.data, "<i2").astype(np.float32) / np.float32(32768)
    expression = expression_of(audio.expression, "audio.expression")
    return SpeechAudio(audio.turn_id, audio.generation, audio.audio.start_sample, samples, expression)


def expression_of(expression: speech_pb2.Expression, field: str) -> Expression:
    if expression.emotion not in speech_pb2.Emotion.values():
        known = ", ".join(speech_pb2.Emotion.keys()[1:])
        raise InvalidInput(f"{field}.emotion", f"{expression.emotion} is not known", known)
    if not (math.isfinite(expression.intensity) and 0 <= expression.intensity <= 1):
        raise InvalidInput(f"{field}.intensity", f"is {expression.intensity:g}", "0 to 1")
    name = speech_pb2.Emotion.Name(expression.emotion or speech_pb2.EMOTION_NEUTRAL)
    return Expression(name.removeprefix("EMOTION_").lower(), expression.intensity)


def not_negative(field: str, value: int) -> None:
    if value < 0:
        raise InvalidInput(field, f"{value} is negative", "0 or more")


def near(field: str, sample: int, position: int, config: AnimationConfig) -> None:
    """What is known ahead is kept in memory, so it has a horizon."""
    if sample - position > FARTHEST_SPEECH_S * config.sample_rate_hz:
        raise InvalidInput(field, f"{sample} is too far ahead of {position}", f"at most {FARTHEST_SPEECH_S} s")


def named(field: str, turn_id: str) -> None:
    if not turn_id:
        raise InvalidInput(field, "is empty", "the turn's name: a face without one idles")


def frame_proto(frame: Frame) -> animation_pb2.FaceFrame:
    head = frame.head
    return animation_pb2.FaceFrame(
        turn_id=frame.turn_id,
        generation=frame.generation,
        start_sample=frame.start,
        weights=frame.weights,
        head=animation_pb2.HeadPose(
            yaw=head.yaw, pitch=head.pitch, roll=head.roll, x=head.x, y=head.y, scale=head.scale
        ),
        engine_ms=frame.engine_ms,
    )


def attach(server: grpc.aio.Server, engine: AnimationEngine, identity: Identity) -> None:
    """Add the servicer of `engine` to `server`."""
    animation_pb2_grpc.add_AnimationServiceServicer_to_server(AnimationServicer(engine, identity), server)


async def warm_up(engine: AnimationEngine) -> None:
    """Speak a second. Raises LoadFailed if the frames that come back are not those of 25 frames a second."""
    config = AnimationConfig(24000, style=engine.default_style)

    async def second() -> AsyncGenerator[Input, None]:
        spans = tuple(PhonemeSpan(p, i * 2400, (i + 1) * 2400) for i, p in enumerate(("h", "ə", "l", "oʊ")))
        yield Speech("warm-up", 0, 0, 9600, spans)
        yield Advance(24000)

    async with aclosing(engine.animate(config, second())) as frames:
        starts = [frame.start async for frame in frames]
    if starts != list(range(0, 24000, 960)):
        raise LoadFailed(f"a second at 25 frames came back as {len(starts)} frames")


SERVICE = Service(
    name="animation",
    grpc_name=animation_pb2.DESCRIPTOR.services_by_name["AnimationService"].full_name,
    engines={"visemes": "services.animation.engines.visemes:VisemeEngine"},
    attach=attach,
    warm_up=warm_up,
    interface=validation.interface,
    measure=validation.measure,
    nice=priority.PICTURES_NICE,
)
