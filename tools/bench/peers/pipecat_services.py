"""Our engine servers as services of pipecat. Runs in pipecat's own environment: see pipecat_runtime."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, fields
from typing import Any

import grpc
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import (
    LLMSettings,
    STTSettings,
    TTSSettings,
)
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.utils.time import time_now_iso8601

from talkmesh.asr.v1 import asr_pb2, asr_pb2_grpc
from talkmesh.audio.v1 import audio_pb2
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from talkmesh.tts.v1 import tts_pb2, tts_pb2_grpc

IN_HZ, OUT_HZ = 16_000, 24_000
TTFS_P99_S = 0.5
"""What our recogniser needs from the end of speech to its final at worst; finals say that they are final, so it is waited
for only when one does not come."""
ROLES = {"system": llm_pb2.ROLE_SYSTEM, "user": llm_pb2.ROLE_USER, "assistant": llm_pb2.ROLE_ASSISTANT}


@dataclass(frozen=True)
class Engines:
    """The servers, and how they are asked: the same as the gateway asks them."""

    asr: grpc.aio.Channel
    llm: grpc.aio.Channel
    tts: grpc.aio.Channel
    max_tokens: int
    seed: int


class Recognition(STTService):  # type: ignore[misc]
    """Streams all audio to the ASR, as it comes, and asks for the final when the VAD hears the end of speech."""

    def __init__(self, engines: Engines) -> None:
        super().__init__(ttfs_p99_latency=TTFS_P99_S, settings=STTSettings(model=None, language=None))
        self._stub: asr_pb2_grpc.AsrServiceAsyncStub = asr_pb2_grpc.AsrServiceStub(engines.asr)
        self._requests: asyncio.Queue[asr_pb2.StreamingRecognizeRequest] = asyncio.Queue()
        self._heard_samples = 0
        self._reading: Any = None

    async def start(self, frame: Frame) -> None:
        await super().start(frame)
        self._reading = self.create_task(self._read())

    async def cleanup(self) -> None:
        await super().cleanup()
        if self._reading:
            await self.cancel_task(self._reading)
            self._reading = None

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        chunk = audio_pb2.AudioChunk(start_sample=self._heard_samples, data=audio)
        self._heard_samples += len(audio) // 2
        self._requests.put_nowait(asr_pb2.StreamingRecognizeRequest(audio=chunk))
        yield None

    async def _handle_vad_user_stopped_speaking(self, frame: Frame) -> None:
        await super()._handle_vad_user_stopped_speaking(frame)
        self.request_finalize()
        self._requests.put_nowait(asr_pb2.StreamingRecognizeRequest(flush=asr_pb2.Flush()))

    async def _read(self) -> None:
        async for response in self._stub.StreamingRecognize(self._sent()):
            transcript = response.transcript
            if response.HasField("transcript") and transcript.is_final and transcript.text:
                self.confirm_finalize()
                await self.push_frame(TranscriptionFrame(transcript.text, "", time_now_iso8601(), finalized=True))

    async def _sent(self) -> AsyncIterator[asr_pb2.StreamingRecognizeRequest]:
        format = audio_pb2.AudioFormat(encoding=audio_pb2.ENCODING_PCM_S16LE, sample_rate_hz=IN_HZ, channels=1)
        yield asr_pb2.StreamingRecognizeRequest(config=asr_pb2.RecognitionConfig(format=format))
        while True:
            yield await self._requests.get()


class Writing(LLMService):  # type: ignore[misc]
    """The LLM. `prompts` keeps what users were made out to say, with the moment."""

    def __init__(self, engines: Engines, prompts: list[tuple[float, str]], now: Any) -> None:
        unset = dict.fromkeys(
            f.name for f in fields(LLMSettings) if f.name not in ("extra", "use_provider_thinking_default")
        )
        super().__init__(settings=LLMSettings(**unset | {"filter_incomplete_user_turns": False}))
        self._llm: llm_pb2_grpc.LlmServiceAsyncStub = llm_pb2_grpc.LlmServiceStub(engines.llm)
        self._config = llm_pb2.GenerationConfig(max_tokens=engines.max_tokens, temperature=0.0, seed=engines.seed)
        self._prompts = prompts
        self._now = now

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        messages = [(str(m["role"]), str(m["content"])) for m in frame.context.get_messages()]
        self._prompts.append((self._now(), messages[-1][1]))
        await self.push_frame(LLMFullResponseStartFrame())
        async for text in self._written(messages):
            await self._push_llm_text(text)
        await self.push_frame(LLMFullResponseEndFrame())

    async def _written(self, messages: list[tuple[str, str]]) -> AsyncGenerator[str, None]:
        async def requests() -> AsyncIterator[llm_pb2.GenerateRequest]:
            yield llm_pb2.GenerateRequest(config=self._config)
            prompt = llm_pb2.Prompt(
                messages=[llm_pb2.Message(role=ROLES[role], content=text) for role, text in messages]
            )
            yield llm_pb2.GenerateRequest(prompt=prompt)

        call = self._llm.Generate(requests())
        try:
            async for response in call:
                if response.HasField("delta"):
                    yield response.delta.text
        finally:
            call.cancel()


class Speaking(TTSService):  # type: ignore[misc]
    """The TTS: a call for each piece of text that pipecat hands over, played while it is made."""

    def __init__(self, engines: Engines, **how: Any) -> None:
        settings = TTSSettings(model=None, voice=None, language=None)
        super().__init__(sample_rate=OUT_HZ, push_start_frame=True, push_stop_frames=True, settings=settings, **how)
        self._tts: tts_pb2_grpc.TtsServiceAsyncStub = tts_pb2_grpc.TtsServiceStub(engines.tts)

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        async def requests() -> AsyncIterator[tts_pb2.SynthesizeRequest]:
            yield tts_pb2.SynthesizeRequest(config=tts_pb2.SynthesisConfig(sample_rate_hz=OUT_HZ))
            yield tts_pb2.SynthesizeRequest(clause=tts_pb2.Clause(text=text))

        call = self._tts.Synthesize(requests())
        try:
            async for response in call:
                if response.HasField("audio"):
                    yield TTSAudioRawFrame(response.audio.data, OUT_HZ, 1, context_id=context_id)
        finally:
            call.cancel()
