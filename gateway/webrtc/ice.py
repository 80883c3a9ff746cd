"""How peers find the gateway: ICE servers, and the addresses it is found at."""

import ipaddress
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aioice import ice
from aiortc import RTCConfiguration, RTCIceServer
from aiortc.rtcicetransport import parse_stun_turn_uri
from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError, field_validator


class IceServer(BaseModel):
    """A STUN or TURN server, as browsers write it. Printing it shows no credential."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: tuple[str, ...] = Field(min_length=1)
    username: str = ""
    credential: SecretStr = SecretStr("")

    @field_validator("urls", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("urls")
    @classmethod
    def _understood(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parse_stun_turn_uri(url)
        return value

    def for_browsers(self) -> dict[str, object]:
        """An RTCIceServer of JavaScript, credential and all: for those who are to connect."""
        said: dict[str, object] = {"urls": list(self.urls)}
        if self.username:
            said |= {"username": self.username, "credential": self.credential.get_secret_value()}
        return said


SERVERS = TypeAdapter(tuple[IceServer, ...])


def ice_servers(text: str) -> tuple[IceServer, ...]:
    """A JSON list of ICE servers; empty is none. Raises ValueError, whose message repeats nothing of the text."""
    if not text.strip():
        return ()
    try:
        return SERVERS.validate_python(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError:
        raise ValueError('not a JSON list of {"urls": […], "username": …, "credential": …}') from None


def configuration(servers: Sequence[IceServer]) -> RTCConfiguration:
    """aiortc's; without servers it would take one of Google's. It uses the first STUN and the first TURN server."""
    return RTCConfiguration(
        iceServers=[
            RTCIceServer(
                urls=list(server.urls),
                username=server.username or None,
                credential=server.credential.get_secret_value() or None,
            )
            for server in servers
        ]
    )


@contextmanager
def found_at(host: str) -> Iterator[None]:
    """While this is open, gather candidates at one address of this machine alone; "" leaves aioice to take all but loopback.

    An address that is not this machine's changes nothing here: see `announced`.
    """
    if not host or not is_here(host):
        yield
        return
    everywhere = ice.get_host_addresses
    ice.get_host_addresses = lambda use_ipv4, use_ipv6: [host]
    try:
        yield
    finally:
        ice.get_host_addresses = everywhere


def is_here(host: str) -> bool:
    """Whether an address can be bound on this machine."""
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def announced(sdp: str, host: str) -> str:
    """An answer in which host candidates have the address `host`: where that is mapped to this machine, one to one."""
    if not host or is_here(host):
        return sdp
    return "\r\n".join(_moved(line, host) for line in sdp.splitlines()) + "\r\n"


def _moved(line: str, host: str) -> str:
    words = line.split(" ")
    if line.startswith("a=candidate:") and "typ host" in line:
        words[4] = host
    elif line.startswith("c=IN "):
        words[1:] = ["IP6" if ":" in host else "IP4", host]
    return " ".join(words)
