"""JSON of the HTTP interface."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.runtime.errors import InvalidInput
from talkmesh.audio.v1 import audio_pb2
from talkmesh.conversation.v1 import conversation_pb2

Config = conversation_pb2.ConversationConfig


class Mode(StrEnum):
    """Who says that the user has stopped to speak."""

    AUTO = "auto"
    PUSH = "push"


INPUT = audio_pb2.AudioFormat(encoding=audio_pb2.ENCODING_PCM_S16LE, sample_rate_hz=16000, channels=1)
"""What microphones become."""
ENDPOINTING = {
    Mode.AUTO: conversation_pb2.ENDPOINTING_AUTO,
    Mode.PUSH: conversation_pb2.ENDPOINTING_PUSH_TO_TALK,
}


class SessionWishes(BaseModel):
    """How a session is to be; what is left out is the gateway's default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    portrait: str = Field(default="", max_length=200)
    voice: str = Field(default="", max_length=200)
    size: int = Field(default=0, ge=0, le=4096, description="width and height of the picture in pixels")
    language: str = Field(default="", max_length=40)
    mode: Mode = Field(default=Mode.AUTO, strict=False, description="auto: silence ends a turn; push: the client does")
    system_prompt: str = Field(default="", max_length=20000)
    barge_in: bool | None = Field(
        default=None, description="whether the user's speech stops a reply; by default it does"
    )
    grace_ms: int = Field(default=0, ge=0, le=600_000, description="how long the session goes on when nobody is there")

    def config(self, session_id: str = "") -> Config:
        """As the gateway understands it."""
        live = conversation_pb2.Live(endpointing=ENDPOINTING[self.mode], grace_ms=self.grace_ms)
        if self.barge_in is not None:
            live.barge_in = self.barge_in
        try:
            return Config(
                session_id=session_id,
                portrait=self.portrait,
                voice=self.voice,
                size=self.size,
                language=self.language,
                system_prompt=self.system_prompt,
                live=live,
                input=INPUT,
                outputs=conversation_pb2.Outputs(audio=True, phonemes=True, video=True),
            )
        except (TypeError, ValueError) as error:  # Text that UTF-8 cannot hold.
            raise InvalidInput("body", "cannot be encoded") from error


class Text(BaseModel):
    """Something to say or to ask."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1, max_length=20000)


class SessionId(BaseModel):
    """A session."""

    session_id: str


class TurnId(BaseModel):
    """A turn that was begun or is queued."""

    turn_id: str


class SessionState(BaseModel):
    """A session that is there."""

    session_id: str
    portrait: str
    width: int
    height: int
    viewers: int = Field(description="how many outputs and peers watch it now, each of its tracks counted")


class SessionList(BaseModel):
    """All live sessions."""

    sessions: list[SessionState]


class Portrait(BaseModel):
    """A face to choose."""

    name: str
    image: str = Field(description="path of a picture of it")


class Voice(BaseModel):
    """A voice to choose."""

    name: str


class PageConfig(BaseModel):
    """What the talk page needs to know."""

    portraits: list[Portrait]
    voices: list[Voice]
    ice_servers: list[dict[str, Any]]
    version: str
