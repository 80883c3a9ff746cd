"""Where a service's hosts are, as an operator writes it.

tts.example:7403                     one host
10.0.0.1:7403,10.0.0.2:7403          several; "ipv4:" and "ipv6:" may stand in front, as in grpc's own targets
dns:tts.example:7403                 a host at each address that the name stands for, looked up again and again
unix:/run/talkmesh/tts.sock          one host on this machine
"""

import asyncio
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Name:
    """A name of the DNS, each of whose addresses is a host."""

    name: str
    port: int


@dataclass(frozen=True)
class Places:
    """Addresses that stay, and names to be looked up."""

    fixed: tuple[str, ...] = ()
    names: tuple[Name, ...] = ()


def places(text: str) -> Places:
    """What `text` stands for. Raises ValueError naming the part that is wrong."""
    fixed, names = [], []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part.startswith("dns:"):
            names.append(Name(*name_and_port(part.removeprefix("dns:").lstrip("/"))))
        elif part.startswith("unix:"):
            fixed.append(part)
        else:
            address = part.removeprefix("ipv4:").removeprefix("ipv6:")
            name_and_port(address)
            fixed.append(address)
    return Places(tuple(dict.fromkeys(fixed)), tuple(dict.fromkeys(names)))


def name_and_port(address: str) -> tuple[str, int]:
    """The halves of "name:port". Raises ValueError."""
    name, _, port = address.rpartition(":")
    if not name or "/" in name or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not name:port")
    return name, int(port)


async def looked_up(name: Name) -> frozenset[str]:
    """Every address of a name as "ip:port"; those of IPv6 only where there is none of IPv4. Raises OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name.name, name.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{name.name!r} cannot be a name of the DNS") from error
    of_v4 = {f"{place[0]}:{name.port}" for family, *_, place in found if family is socket.AF_INET}
    of_v6 = {f"[{place[0]}]:{name.port}" for family, *_, place in found if family is socket.AF_INET6}
    return frozenset(of_v4 or of_v6)
