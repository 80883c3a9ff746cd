"""The gateway's settings: read once, checked, then frozen."""

from fractions import Fraction

from pydantic import BaseModel, ConfigDict, Field

from services.runtime.options import from_command_line
from services.runtime.telemetry import LogLevel

SYSTEM_PROMPT = ""


class GatewaySettings(BaseModel):
    """How the gateway runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = Field("127.0.0.1:7400", description="host:port; port 0 takes a free one")
    asr: str = Field("127.0.0.1:7401", description="address of the ASR service")
    llm: str = Field("127.0.0.1:7402", description="address of the LLM service")
    tts: str = Field("127.0.0.1:7403", description="address of the TTS service")
    animation: str = Field("127.0.0.1:7404", description="address of the animation service")
    render: str = Field("127.0.0.1:7405", description="address of the render service")
    system_prompt: str = Field(SYSTEM_PROMPT, description="empty leaves it to the language model's own template")
    max_reply_tokens: int = Field(96, ge=1, description="most tokens in a reply")
    max_history_messages: int = Field(40, ge=0, description="messages of a session that are kept")
    max_sessions: int = Field(32, ge=1, description="open calls; one more is told to come back later")
    max_text_chars: int = Field(4000, ge=1, description="longest question typed")
    keep_session_s: float = Field(60, ge=0, description="how long a session outlives its call")
    sample_rate_hz: int = Field(24000, ge=8000, le=48000, description="rate of a session's clock and audio")
    fps: Fraction = Field(Fraction(25), gt=0, le=60, description="pictures a second")
    lead_in_ms: int = Field(240, ge=0, description="still face before the first reply of a call")
    tail_ms: int = Field(480, ge=0, description="still face after each reply")
    window_frames: int = Field(12, ge=2, description="pictures that may be under way at once")
    grace_s: float = Field(20, ge=0, description="time that calls get to end after the first stop signal")
    log_level: LogLevel = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    @property
    def addresses(self) -> dict[str, str]:
        """Service name → address."""
        return {name: getattr(self, name) for name in ("asr", "llm", "tts", "animation", "render")}


def gateway_settings(arguments: list[str] | None = None) -> GatewaySettings:
    """The gateway's settings from the command line and TALKMESH_GATEWAY_… in the environment."""
    return from_command_line(
        GatewaySettings, "python -m gateway", "The gateway of talkmesh.", "TALKMESH_GATEWAY", arguments
    )
