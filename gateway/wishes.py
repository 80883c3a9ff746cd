"""What a call wants, from the client's config and the gateway's settings, in the words of each service."""

import secrets
from collections.abc import Sequence

from gateway.clock import Clock
from gateway.settings import GatewaySettings
from services.runtime.errors import InvalidInput
from talkmesh.asr.v1 import asr_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.llm.v1 import llm_pb2
from talkmesh.tts.v1 import tts_pb2

PAUSE_MS = 64
"""Silence after which a pause is worth knowing of."""
ONSET_MS = 32
"""Voice after which the user speaks."""


class Wishes:
    """Settled when the call opens; nothing in it changes but the voice, when a model comes that does not have it."""

    def __init__(self, config: conversation_pb2.ConversationConfig, settings: GatewaySettings) -> None:
        outputs = config.outputs
        self.config = config
        self.settings = settings
        self.voice = config.voice
        self.clock = Clock(settings.sample_rate_hz, settings.fps)
        self.seed = config.seed if config.HasField("seed") else secrets.randbits(63)
        self.hears = config.HasField("input")
        self.is_live = config.HasField("live")
        self.push_to_talk = config.live.endpointing == conversation_pb2.ENDPOINTING_PUSH_TO_TALK
        self.interruptible = config.live.barge_in or not config.live.HasField("barge_in")
        self.patience_s = settings.patience_s if self.is_live else 0.0
        """How long to wait for a service that has gone, instead of ending with its error."""
        self.draws: bool = outputs.video or outputs.mp4
        self.moves: bool = self.draws or outputs.face_frames
        self.speaks: bool = self.moves or outputs.audio or outputs.phonemes

    def question(self, text: str) -> str:
        """A typed question. Raises InvalidInput for one that is empty or too long."""
        if not text.strip():
            raise InvalidInput("text.text", "is empty", "a question")
        if len(text) > self.settings.max_text_chars:
            expected = f"at most {self.settings.max_text_chars}"
            raise InvalidInput("text.text", f"has {len(text)} characters", expected)
        return text

    def recognition(self) -> asr_pb2.RecognitionConfig:
        config = asr_pb2.RecognitionConfig(
            format=self.config.input, language=self.config.language, interim_results=True
        )
        if self.is_live:
            config.pause_ms, config.onset_ms = PAUSE_MS, ONSET_MS
            config.cut_long_utterances = config.predict_turns = True
        return config

    def generation(self) -> llm_pb2.GenerationConfig:
        max_tokens = self.config.max_reply_tokens or self.settings.max_reply_tokens
        config = llm_pb2.GenerationConfig(max_tokens=max_tokens)
        if self.config.HasField("seed"):
            config.seed = self.config.seed
        if self.config.HasField("temperature"):
            config.temperature = self.config.temperature
        return config

    def prompt(self, history: Sequence[llm_pb2.Message], question: str) -> list[llm_pb2.Message]:
        """System prompt, if one is wished for, history, question."""
        system = self.config.system_prompt or self.settings.system_prompt
        first = [llm_pb2.Message(role=llm_pb2.ROLE_SYSTEM, content=system)] if system else []
        return [*first, *history, llm_pb2.Message(role=llm_pb2.ROLE_USER, content=question)]

    def synthesis(self, turn_id: str, generation: int) -> tts_pb2.SynthesisConfig:
        return tts_pb2.SynthesisConfig(
            turn_id=turn_id,
            generation=generation,
            voice=self.voice,
            language=self.config.language,
            sample_rate_hz=self.clock.rate_hz,
        )
