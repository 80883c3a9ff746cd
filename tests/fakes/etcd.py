"""Real etcd servers for tests, ears that listen to a watch, and a wire that can be cut."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from services.runtime.etcd import (
    Away,
    Back,
    Changes,
    Etcd,
    Event,
    Heard,
    Keys,
    KeyValue,
    Pace,
    Snapshot,
    Span,
    connected,
    etcd_settings,
)
from services.runtime.etcd_members import Member, member
from tools.etcd import LocalEtcd, Ports, Tls, free_port, running_etcd

PATIENCE_S = 20.0


@asynccontextmanager
async def etcd_server(tls: Tls | None = None, extra: Sequence[str] = ()) -> AsyncIterator[LocalEtcd]:
    """An etcd with a folder of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tm-etcd-") as folder:
        async with running_etcd(Path(folder) / "data", tls=tls, extra=extra, sync=False) as server:
            yield server


@pytest.fixture
async def etcd() -> AsyncIterator[LocalEtcd]:
    """An etcd of the test's own."""
    async with etcd_server() as server:
        yield server


@pytest.fixture
async def client(etcd: LocalEtcd) -> AsyncIterator[Etcd]:
    """A client of the fixture `etcd`."""
    async with connected(etcd_settings(etcd.endpoint)) as client:
        yield client


@asynccontextmanager
async def etcd_cluster(size: int = 3) -> AsyncIterator[list[LocalEtcd]]:
    """Members of one cluster."""
    with tempfile.TemporaryDirectory(prefix="tm-etcd-") as name:
        folder, ports = Path(name), [Ports(free_port(), free_port(), free_port()) for _ in range(size)]
        everybody = ",".join(f"m{n}=http://127.0.0.1:{each.peer}" for n, each in enumerate(ports))
        members = [
            LocalEtcd(
                folder / f"m{n}",
                folder / f"m{n}.log",
                each,
                extra=("--name", f"m{n}", "--initial-cluster", everybody, "--election-timeout", "500"),
                sync=False,
            )
            for n, each in enumerate(ports)
        ]
        try:
            await asyncio.gather(*(each.start() for each in members))
            yield members
        finally:
            await asyncio.gather(*(each.kill() for each in members))


@asynccontextmanager
async def stubs(server: LocalEtcd) -> AsyncIterator[Member]:
    """etcd's own calls, for what the client does not do."""
    async with grpc.aio.insecure_channel(server.endpoint) as channel:
        yield member(server.endpoint, channel)


def wipe(server: LocalEtcd) -> None:
    """Take away all data of an etcd that does not run."""
    assert not server.running
    shutil.rmtree(server.data_dir)


@dataclass
class Ear:
    """What a watch has told, and the state that follows from it. Used through `listening`."""

    heard: list[Heard] = field(default_factory=list)
    state: dict[str, KeyValue] = field(default_factory=dict)
    stale: bool = False

    @property
    def events(self) -> list[Event]:
        return [event for heard in self.heard if isinstance(heard, Changes) for event in heard.events]

    @property
    def values(self) -> dict[str, str]:
        return {key: kv.value for key, kv in self.state.items()}

    def count(self, kind: type[Heard]) -> int:
        return sum(isinstance(heard, kind) for heard in self.heard)

    def take(self, heard: Heard) -> None:
        self.heard.append(heard)
        match heard:
            case Snapshot():
                self.state = dict(heard.kvs)
            case Changes():
                for event in heard.events:
                    self.state.pop(event.kv.key, None)
                    if not event.deleted:
                        self.state[event.kv.key] = event.kv
            case Away() | Back():
                self.stale = isinstance(heard, Away)

    async def hears(self, condition: Callable[["Ear"], bool], within_s: float = PATIENCE_S) -> None:
        """Wait until a condition holds. Raises AssertionError with the last things heard."""
        deadline = time.monotonic() + within_s
        while not condition(self):
            assert time.monotonic() < deadline, f"not heard within {within_s} s; last: {self.heard[-3:]}"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(
    client: Etcd, keys: Keys | Sequence[Keys], pace: Pace | None = None, first: bool = True
) -> AsyncIterator[Ear]:
    """An ear at a watch; with `first`, once it has heard the first snapshot."""
    ear, every = Ear(), [keys] if isinstance(keys, str | Span) else keys

    async def listen() -> None:
        async for heard in client.watch(*every, pace=pace or Pace()):
            ear.take(heard)

    listener = asyncio.create_task(listen())
    try:
        if first:
            await ear.hears(lambda ear: ear.count(Snapshot) == 1)
        yield ear
        assert not listener.done(), listener.exception()
    finally:
        listener.cancel()
        await asyncio.wait([listener])


@dataclass
class Wire:
    """A way to a server, which can be cut. Used through `wired`.

    While `dumb`, nothing gets to the server or back; while `deaf`, nothing gets back.
    """

    target: tuple[str, int]
    port: int = 0
    dumb: bool = False
    deaf: bool = False
    connections: set[asyncio.Task[None]] = field(default_factory=set)
    passed: int = 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection; new ones are let through."""
        for connection in self.connections:
            connection.cancel()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.connections.add(task)
        self.passed += 1
        try:
            there, back = await asyncio.open_connection(*self.target)
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._copy(reader, back, lambda: self.dumb))
                    ways.create_task(self._copy(there, writer, lambda: self.dumb or self.deaf))
            finally:
                back.transport.abort()
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(task)
            writer.transport.abort()

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: Callable[[], bool]) -> None:
        while data := await reader.read(65_536):
            while held():
                await asyncio.sleep(0.01)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def wired(server: LocalEtcd) -> AsyncIterator[Wire]:
    """A wire to an etcd."""
    wire = Wire(("127.0.0.1", server.ports.client))
    async with AsyncExitStack() as stack:
        listener = await asyncio.start_server(wire.carry, "127.0.0.1", free_port())
        wire.port = listener.sockets[0].getsockname()[1]
        stack.callback(listener.close)
        stack.callback(wire.cut)
        yield wire


def certificates(folder: Path) -> Mapping[str, Path]:
    """PEM files by name: an authority, what it has signed for server and client, and another authority. By `openssl`."""
    for authority in ("ca", "other"):
        openssl(folder, authority, "-subj", f"/CN=test {authority}")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key")
    openssl(folder, "server", "-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1", *signed)
    openssl(folder, "client", "-subj", "/CN=talker", *signed)
    return {path.name: path for path in folder.iterdir()}


def openssl(folder: Path, name: str, *arguments: str) -> None:
    """Make name.pem and name.key."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    files = ("-out", f"{name}.pem", "-keyout", f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", *curve, *files, *arguments], cwd=folder, check=True, capture_output=True)
