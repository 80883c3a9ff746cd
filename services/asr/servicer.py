"""The ASR service on the wire: checks what is sent and translates between messages and the engine's words."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np

from services.asr import validation
from services.asr.engine import (
    Activity,
    Audio,
    Flush,
    Input,
    Output,
    RecognitionConfig,
    RecognitionEngine,
    SpeechActivity,
    Transcript,
    TurnPrediction,
)
from services.asr.pcm import Encoding, Format, Intake
from services.runtime.engine import Identity, Service
from services.runtime.errors import InvalidInput, LoadFailed
from services.runtime.statuses import told_as_status
from services.runtime.streams import config_and_data
from services.runtime.tracing import StreamTrace
from talkmesh.asr.v1 import asr_pb2, asr_pb2_grpc
from talkmesh.audio.v1 import audio_pb2

ENCODINGS = {audio_pb2.ENCODING_PCM_S16LE: Encoding.S16LE, audio_pb2.ENCODING_PCM_F32LE: Encoding.F32LE}
KINDS = {
    Activity.SPEECH_STARTED: asr_pb2.SpeechActivity.KIND_SPEECH_STARTED,
    Activity.SPEECH_ENDED: asr_pb2.SpeechActivity.KIND_SPEECH_ENDED,
    Activity.SPEECH_PAUSED: asr_pb2.SpeechActivity.KIND_SPEECH_PAUSED,
    Activity.SPEECH_RESUMED: asr_pb2.SpeechActivity.KIND_SPEECH_RESUMED,
}
LONGEST_WAIT_MS = 1_000


class AsrServicer(asr_pb2_grpc.AsrServiceServicer):
    """Serves one loaded engine."""

    def __init__(self, engine: RecognitionEngine, identity: Identity) -> None:
        self._engine = engine
        self._identity = identity

    @told_as_status
    async def StreamingRecognize(
        self,
        request_iterator: AsyncIterator[asr_pb2.StreamingRecognizeRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncGenerator[asr_pb2.StreamingRecognizeResponse, None]:
        """Ends when the client half-closes and everything is transcribed; cancelling stops the engine's stream."""
        first, requests = await config_and_data(request_iterator, asr_pb2.RecognitionConfig)
        format = audio_format(first.config.format)
        config = recognition_config(first.config, format, self._engine)
        intake = Intake(format, self._engine.max_chunk_ms)
        yield asr_pb2.StreamingRecognizeResponse(
            started=asr_pb2.RecognitionStarted(
                model=self._identity.serving(context),
                languages=self._engine.languages,
                max_utterance_ms=self._engine.max_utterance_ms,
                max_chunk_ms=self._engine.max_chunk_ms,
                predicts_turns=self._engine.predicts_turns,
            )
        )
        trace = StreamTrace(self._identity.serving(context))
        async with (
            aclosing(inputs(requests, intake)) as heard,
            aclosing(self._engine.recognize(config, heard)) as outputs,
        ):
            async for output in outputs:
                if isinstance(output, Transcript) and output.flush:
                    began = time.perf_counter() - output.engine_ms / 1000
                    trace.done("asr.recognize", output.flush.turn_id, began, output.engine_ms)
                yield response(output)


def audio_format(format: audio_pb2.AudioFormat) -> Format:
    """Raises InvalidInput naming the field."""
    if format.encoding not in ENCODINGS:
        expected = " or ".join(audio_pb2.Encoding.Name(known) for known in ENCODINGS)
        raise InvalidInput("config.format.encoding", f"is {format.encoding}", expected)
    return Format(ENCODINGS[format.encoding], format.sample_rate_hz, format.channels)


def recognition_config(
    config: asr_pb2.RecognitionConfig, format: Format, engine: RecognitionEngine
) -> RecognitionConfig:
    """Raises InvalidInput naming the field."""
    language = config.language.replace("_", "-").split("-")[0].lower()
    if language and language not in engine.languages:
        spoken = ", ".join(engine.languages)
        raise InvalidInput("config.language", f"{config.language!r} is not spoken by this model", spoken)
    if not 0 <= config.end_silence_ms <= engine.max_utterance_ms:
        raise InvalidInput(
            "config.end_silence_ms", f"is {config.end_silence_ms}", f"0 to max_utterance_ms ({engine.max_utterance_ms})"
        )
    for name in ("pause_ms", "onset_ms"):
        if not 0 <= (value := getattr(config, name)) <= LONGEST_WAIT_MS:
            raise InvalidInput(f"config.{name}", f"is {value}", f"0 to {LONGEST_WAIT_MS}")
    return RecognitionConfig(
        format.sample_rate_hz,
        language,
        config.interim_results,
        config.end_silence_ms,
        config.pause_ms,
        config.onset_ms,
        config.cut_long_utterances,
        config.predict_turns,
    )


async def inputs(
    requests: AsyncIterator[asr_pb2.StreamingRecognizeRequest], intake: Intake
) -> AsyncGenerator[Input, None]:
    """The stream's data in the engine's words."""
    async for request in requests:
        if request.WhichOneof("request") == "audio":
            yield intake.take(request.audio.start_sample, request.audio.data)
        else:
            yield Flush(request.flush.turn_id, request.flush.generation)


def response(output: Output) -> asr_pb2.StreamingRecognizeResponse:
    """An output as its message."""
    if isinstance(output, SpeechActivity):
        activity = asr_pb2.SpeechActivity(kind=KINDS[output.kind], sample=output.sample)
        return asr_pb2.StreamingRecognizeResponse(activity=activity)
    if isinstance(output, TurnPrediction):
        prediction = asr_pb2.TurnPrediction(complete=output.complete, sample=output.sample, engine_ms=output.engine_ms)
        return asr_pb2.StreamingRecognizeResponse(prediction=prediction)
    return asr_pb2.StreamingRecognizeResponse(transcript=transcript(output))


def transcript(output: Transcript) -> asr_pb2.Transcript:
    words = [
        asr_pb2.RecognizedWord(
            word=word.text, start_sample=word.start_sample, end_sample=word.end_sample, confidence=word.confidence
        )
        for word in output.words
    ]
    return asr_pb2.Transcript(
        turn_id=output.flush.turn_id if output.flush else "",
        generation=output.flush.generation if output.flush else 0,
        utterance=output.utterance,
        is_final=output.is_final,
        text=output.text,
        stability=output.stability,
        language=output.language,
        words=words,
        start_sample=output.start_sample,
        end_sample=output.end_sample,
        engine_ms=output.engine_ms,
    )


def attach(server: grpc.aio.Server, engine: RecognitionEngine, identity: Identity) -> None:
    """Add the servicer of `engine` to `server`."""
    asr_pb2_grpc.add_AsrServiceServicer_to_server(AsrServicer(engine, identity), server)


async def warm_up(engine: RecognitionEngine) -> None:
    """A second of silence must come back as one empty final. Raises LoadFailed otherwise."""

    async def golden() -> AsyncGenerator[Input, None]:
        yield Audio(0, np.zeros(16_000, np.float32))
        yield Flush()

    config = RecognitionConfig(sample_rate_hz=16_000)
    async with aclosing(engine.recognize(config, golden())) as outputs:
        heard = [output async for output in outputs]
    if [output.text if isinstance(output, Transcript) else output for output in heard] != [""]:
        raise LoadFailed(f"a second of silence was recognised as {heard}")


SERVICE = Service(
    name="asr",
    grpc_name=asr_pb2.DESCRIPTOR.services_by_name["AsrService"].full_name,
    engines={"whisper": "services.asr.engines.whisper:WhisperEngine"},
    attach=attach,
    warm_up=warm_up,
    interface=validation.interface,
    measure=validation.measure,
)
