"""The gateway's settings: read once, checked, then frozen."""

from fractions import Fraction
from typing import Any, Literal

from pydantic import Field, field_validator

from gateway.addresses import Places, name_and_port, places
from gateway.outcomes.options import OutcomesOptions
from services.runtime.access import EtcdOptions
from services.runtime.desired import SERVICES
from services.runtime.options import from_command_line
from services.runtime.telemetry import LogLevel

SYSTEM_PROMPT = ""
APOLOGY = "Sorry, I lost my train of thought. Could you say that again?"
HOSTS = {name: f"127.0.0.1:{7401 + index}" for index, name in enumerate(SERVICES)}
"""Where services are looked for when nobody says where they are."""


def hosts_field(service: str, name: str) -> Any:
    return Field(
        "",
        description=f"hosts of the {name} service: host:port, several with commas, dns:name:port for all that a name "
        f"stands for; empty is {HOSTS[service]}, or with etcd those found there alone",
    )


class GatewaySettings(OutcomesOptions, EtcdOptions):
    """How the gateway runs."""

    listen: str = Field("127.0.0.1:7400", description="host:port; port 0 takes a free one")
    asr: str = hosts_field("asr", "ASR")
    llm: str = hosts_field("llm", "LLM")
    tts: str = hosts_field("tts", "TTS")
    animation: str = hosts_field("animation", "animation")
    render: str = hosts_field("render", "render")
    metrics: str = Field("", description="host:port for Prometheus, port 0 takes a free one; empty serves none")
    http: str = Field("", description="host:port of the talk page, WebRTC, HLS and the HTTP API; empty serves none")
    http_origins: str = Field(
        "", description="origins, with commas, whose pages may use the HTTP API besides the own one"
    )
    ice_servers: str = Field("", repr=False, description="STUN and TURN servers as a JSON list of RTCIceServer")
    webrtc_host: str = Field(
        "", description="the one address at which WebRTC peers reach this gateway; empty: all it has"
    )
    push_hosts: str = Field("", description="hosts, with commas, that may be pushed to by RTMP; empty: all")
    max_pushes: int = Field(16, ge=0, description="RTMP pushes at a time")
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
    live_grace_s: float = Field(
        10, ge=0, le=600, description="how long a live session waits for its client to come back"
    )
    live_load: float = Field(0.8, gt=0, le=1, description="share of a renderer's time that live sessions may take")
    live_processor: float = Field(
        0.8, gt=0, description="share of a machine's cores that live sessions may take; above 1 lets in more than fit"
    )
    patience_s: float = Field(10, ge=0, description="how long a live session waits for a service that has gone")
    apology: str = Field(APOLOGY, description="what a live session says when no reply could be made")
    access: Literal["required", "open"] = Field(
        "required",
        description="required: callers show a key or token; open: whoever reaches this gateway may do everything",
    )
    jwt_issuer: str = Field("", description="identity provider whose tokens count, as their iss has it; empty is none")
    jwt_audience: str = Field("", description="whom its tokens must be made out for, as their aud has it")
    jwt_jwks: str = Field("", description="where its public keys are: an https URL, or a file")
    jwt_roles_claim: str = Field("roles", description="claim that holds roles; with dots for one inside another")
    jwt_scopes_claim: str = Field("scope", description="claim that holds scopes")
    jwt_names: str = Field("", description="the provider's names for ours, such as mesh-ops=operator,chat=talk")
    grace_s: float = Field(20, ge=0, description="time that calls get to end after the first stop signal")
    log_level: LogLevel = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator(*SERVICES)
    @classmethod
    def _findable(cls, value: str) -> str:
        places(value)
        return value

    @field_validator("ice_servers")
    @classmethod
    def _usable(cls, value: str) -> str:
        if value:
            from gateway.webrtc.ice import ice_servers

            ice_servers(value)
        return value

    @field_validator("metrics", "http")
    @classmethod
    def _listenable(cls, value: str) -> str:
        if value and not value.endswith(":0"):
            name_and_port(value)
        return value

    @property
    def places(self) -> dict[str, Places]:
        """Service → where its hosts are; without etcd, everyone is somewhere."""
        return {name: places(getattr(self, name) or ("" if self.etcd else HOSTS[name])) for name in SERVICES}


def gateway_settings(arguments: list[str] | None = None) -> GatewaySettings:
    """The gateway's settings from the command line and TALKMESH_GATEWAY_… in the environment."""
    return from_command_line(
        GatewaySettings, "python -m gateway", "The gateway of talkmesh.", "TALKMESH_GATEWAY", arguments
    )
