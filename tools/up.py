"""Run the whole mesh on this machine: etcd, five services and the gateway, each its own process.

    python -m tools.up                      the embedded models, gateway on 127.0.0.1:7400, etcd on 127.0.0.1:2379
    python -m tools.up --tts-model joe      another model of the catalog
    python -m tools.up --hosts tts=2        two hosts of a service
    python -m tools.up --port 0             free ports for gateway and etcd
    python -m tools.up --etcd db:2379       an etcd that runs already

Ctrl-C stops everything; a second Ctrl-C stops it at once. Logs: one file a process and all of them merged in `mesh.log`,
below --logs. A process that ends is started again.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.desired import SERVICES
from services.runtime.errors import DomainError
from services.runtime.etcd import connected, etcd_settings
from services.runtime.lifeline import PARENT_VARIABLE
from talkmesh.conversation.v1 import conversation_pb2, conversation_pb2_grpc
from talkmesh.credentials import gateway_channel, local_file, read
from talkmesh.model.v1 import model_pb2, model_pb2_grpc
from tools.etcd import EtcdFailed, LocalEtcd, free_ports, running_etcd
from tools.seed import seed
from tools.tokens import local_token

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.1
LOAD_ATTEMPTS = 2
DISCOVERY_S = 15.0
RESTART_S = 1.0
CROWDED = ("--live-processor", "100")
"""For a gateway that is to let in more live sessions than its machine has room for, to see what becomes of them."""


class NotReady(Exception):
    """A process did not get ready."""


class MergedLog:
    """All processes' lines in one file, and on the terminal if wanted."""

    def __init__(self, folder: Path, echo: TextIO | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._merged = (folder / "mesh.log").open("a", encoding="utf-8", buffering=1)
        self._echo = echo

    async def follow(self, name: str, stream: asyncio.StreamReader) -> None:
        """Write a process's output until it ends."""
        with (self.folder / f"{name}.log").open("a", encoding="utf-8", buffering=1) as own:
            async for raw in stream:
                line = raw.decode("utf-8", "replace")
                for out in filter(None, (own, self._merged, self._echo)):
                    out.write(line)

    def close(self) -> None:
        self._merged.close()


@dataclass
class Member:
    """One process of the mesh."""

    name: str
    command: Sequence[str]
    address: str
    http: str = ""
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    stopping: bool = False

    async def run(self, log: MergedLog, environment: Mapping[str, str]) -> None:
        """Keep the process running until cancelled."""
        while not self.stopping:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=ROOT,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=2**20,
                start_new_session=True,
            )
            assert self.process.stdout is not None
            await log.follow(self.name, self.process.stdout)
            code = await self.process.wait()
            if self.stopping:
                return
            if code == 2:
                raise NotReady(f"{self.name} cannot start; its log says why: {log.folder / f'{self.name}.log'}")
            self.restarts += 1
            await asyncio.sleep(RESTART_S)

    async def stop(self, number: signal.Signals, timeout_s: float) -> None:
        """Signal the process and wait; kill its whole group if it does not end."""
        self.stopping, process = True, self.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@dataclass
class RunningMesh:
    """A mesh that runs on this machine. `etcd` is None when it was running before."""

    address: str
    members: dict[str, Member] = field(default_factory=dict)
    endpoints: str = ""
    etcd: LocalEtcd | None = None
    http: str = ""
    """host:port of the talk page."""
    token: Path = Path()
    """File of the token that clients of this user find by themselves."""

    async def pids(self) -> dict[str, int]:
        """Process ids by name; the engine processes as "tts/engine"."""
        found = {name: member.process.pid for name, member in self.members.items() if member.process}
        for name in self.members.keys() - {"gateway"}:
            async with grpc.aio.insecure_channel(self.members[name].address) as channel:
                stub: model_pb2_grpc.ModelServiceAsyncStub = model_pb2_grpc.ModelServiceStub(channel)
                listed = await stub.ListModels(model_pb2.ListModelsRequest())
                found |= {f"{name}/engine": model.pid for model in listed.models}
        return found


async def ready(member: Member) -> None:
    """Return when a member's health says SERVING. Raises NotReady with what its model failed on."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    async with grpc.aio.insecure_channel(member.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        models: model_pb2_grpc.ModelServiceAsyncStub = model_pb2_grpc.ModelServiceStub(channel)
        while time.monotonic() < deadline:
            with contextlib.suppress(grpc.aio.AioRpcError):
                reply = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                if member.name != "gateway":
                    refuse_hopeless(member, await models.ListModels(model_pb2.ListModelsRequest(), timeout=1))
            await asyncio.sleep(POLL_S)
    raise NotReady(f"{member.name} was not ready after {READY_TIMEOUT_S:.0f} s")


def refuse_hopeless(member: Member, listed: model_pb2.ListModelsResponse) -> None:
    """Raises NotReady when a model has failed to load more than once."""
    for model in listed.models:
        if model.restarts >= LOAD_ATTEMPTS:
            raise NotReady(f"{member.name}: model {model.model.model!r} does not load: {model.last_error}")


def members(
    etcd: str,
    state: Path,
    gateway_port: int,
    http_port: int,
    hosts: Mapping[str, int],
    extra: Mapping[str, Sequence[str]],
    modules: Mapping[str, str],
) -> dict[str, Member]:
    """The processes of a mesh that follows this etcd: hosts as "tts", "tts-2" and so on, the gateway last."""
    names = [
        (service, service if number == 1 else f"{service}-{number}")
        for service in SERVICES
        for number in range(1, hosts.get(service, 1) + 1)
    ]
    ports = free_ports(len(names) + 2)
    found = {}
    for (service, name), port in zip(names, ports, strict=False):
        address = f"127.0.0.1:{port}"
        own = ["--listen", address, "--etcd", etcd, "--instance", name, "--state", str(state / f"{name}.json")]
        command = [sys.executable, "-m", modules.get(service, f"services.{service}"), *own]
        found[name] = Member(name, [*command, *extra.get(name, ())], address)
    address, http = f"127.0.0.1:{gateway_port or ports[-1]}", f"127.0.0.1:{http_port or ports[-2]}"
    command = [sys.executable, "-m", "gateway", "--listen", address, "--http", http, "--etcd", etcd]
    return found | {"gateway": Member("gateway", [*command, *extra.get("gateway", ())], address, http)}


@asynccontextmanager
async def running_mesh(
    logs: Path,
    models: Mapping[str, str] | None = None,
    gateway_port: int = 0,
    echo: TextIO | None = None,
    *,
    extra: Mapping[str, Sequence[str]] | None = None,
    environment: Mapping[str, str] | None = None,
    hosts: Mapping[str, int] | None = None,
    modules: Mapping[str, str] | None = None,
    etcd: str = "",
    etcd_port: int = 0,
    http_port: int = 0,
) -> AsyncIterator[RunningMesh]:
    """A mesh whose every process serves; nothing of it is left on leaving.

    `models`: what services begin with, by service; the catalog's first if left out. `extra`: more command line by member
    name. `hosts`: how many hosts a service has. `modules`: what is run as a service instead of its own. `etcd`: one that
    runs already; otherwise one is started on `etcd_port`, with nothing in it but the catalog. Raises NotReady.
    """
    environment = {**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1", PARENT_VARIABLE: str(os.getpid())}
    async with AsyncExitStack() as stack:
        log = MergedLog(logs, echo)
        stack.callback(log.close)
        local = None if etcd else await fresh_etcd(stack, logs, etcd_port)
        endpoints = etcd or (local.endpoint if local else "")
        await planted(endpoints, models or {})
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talkmesh-state-")))
        found = members(endpoints, state, gateway_port, http_port, hosts or {}, extra or {}, modules or {})
        token = await stack.enter_async_context(local_token(endpoints, found["gateway"].address))
        tasks = [asyncio.create_task(member.run(log, environment)) for member in found.values()]
        stack.push_async_callback(stop_all, list(found.values()), tasks)
        await first_failure_or(asyncio.gather(*map(ready, found.values())), tasks)
        await discovered(found["gateway"])
        yield RunningMesh(found["gateway"].address, found, endpoints, local, found["gateway"].http, token)


async def fresh_etcd(stack: AsyncExitStack, logs: Path, port: int) -> LocalEtcd:
    """An etcd with nothing in it, for as long as `stack` is open. Raises NotReady."""
    data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talkmesh-etcd-")))
    try:
        return await stack.enter_async_context(running_etcd(data / "data", port, log=logs / "etcd.log"))
    except EtcdFailed as error:
        raise NotReady(str(error)) from error


async def planted(endpoints: str, models: Mapping[str, str]) -> None:
    """Have etcd know the catalog and what is wanted. Raises NotReady."""
    try:
        async with connected(etcd_settings(endpoints)) as etcd:
            await seed(etcd, models)
    except DomainError as error:
        raise NotReady(f"the catalog cannot be written to etcd: {error}") from error


async def discovered(gateway: Member) -> None:
    """Return when the gateway knows a host of every service. Raises NotReady."""
    deadline = time.monotonic() + DISCOVERY_S
    async with gateway_channel(gateway.address, read(local_file(gateway.address))) as channel:
        stub: conversation_pb2_grpc.ConversationServiceAsyncStub = conversation_pb2_grpc.ConversationServiceStub(
            channel
        )
        while time.monotonic() < deadline:
            found = await stub.GetStatus(conversation_pb2.GetStatusRequest())
            serving = {s.service for s in found.services if s.health == conversation_pb2.HEALTH_SERVING}
            if serving >= set(SERVICES):
                return
            await asyncio.sleep(POLL_S)
    raise NotReady(f"the gateway did not find every service within {DISCOVERY_S:.0f} s")


async def first_failure_or(wanted: asyncio.Future[Any], tasks: list[asyncio.Task[None]]) -> None:
    """Wait for `wanted`; a member that gives up in the meantime raises."""
    waited: list[asyncio.Future[Any]] = [wanted, *tasks]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            wanted.cancel()
            task.result()
    await wanted


async def stop_all(found: list[Member], tasks: list[asyncio.Task[None]]) -> None:
    """Stop the gateway first, so that conversations drain, then the services."""
    *services, gateway = found
    await gateway.stop(signal.SIGTERM, STOP_TIMEOUT_S)
    await asyncio.gather(*(member.stop(signal.SIGTERM, STOP_TIMEOUT_S) for member in services))
    for member, task in zip(found, tasks, strict=True):
        if member.process is None:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def up(options: argparse.Namespace) -> None:
    models = {name: getattr(options, f"{name}_model") for name in SERVICES}
    loop, stop, now = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, set_next, stop, now)
    async with running_mesh(
        options.logs,
        models,
        options.port,
        None if options.quiet else sys.stderr,
        extra={"gateway": ("--outcomes-folder", str(options.outcomes or options.logs / "outcomes"))},
        hosts=options.hosts,
        etcd=options.etcd,
        etcd_port=options.etcd_port if options.port else 0,
        http_port=options.http_port if options.port else 0,
    ) as mesh:
        addresses = {name: member.address for name, member in mesh.members.items()}
        options.logs.joinpath("addresses.json").write_text(
            json.dumps(addresses | {"etcd": mesh.endpoints, "http": mesh.http})
        )
        print(f"ready: gateway on {mesh.address}; logs in {options.logs}", flush=True)
        for name, member in mesh.members.items():
            print(f"  {name:10} {member.address}", flush=True)
        print(f"  {'etcd':10} {mesh.endpoints}", flush=True)
        print(f"  talk to it: http://{mesh.http}/#token={read(mesh.token)}", flush=True)
        print(f"  token: {mesh.token}; talkmesh finds it by itself on this machine", flush=True)
        await stop.wait()
        hurry = asyncio.create_task(kill_on(now, list(mesh.members.values())))
    hurry.cancel()


def set_next(*events: asyncio.Event) -> None:
    """Set the first event that is not set yet."""
    next((event for event in events if not event.is_set()), events[-1]).set()


async def kill_on(event: asyncio.Event, found: list[Member]) -> None:
    """Kill every process group when the event comes."""
    await event.wait()
    for member in found:
        if member.process and member.process.returncode is None:
            os.killpg(member.process.pid, signal.SIGKILL)


def counts(text: str) -> dict[str, int]:
    """ "tts=2,render=2" as numbers by service. Raises ValueError."""
    found = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if name not in SERVICES or not number.isdecimal() or int(number) < 1:
            raise argparse.ArgumentTypeError(f"{part!r} is not SERVICE=COUNT, with one of {', '.join(SERVICES)}")
        found[name] = int(number)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.up", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=7400, help="of the gateway; 0 takes a free one (7400)")
    parser.add_argument("--http-port", type=int, default=7480, help="of the talk page; 0 takes a free one (7480)")
    parser.add_argument("--logs", type=Path, default=ROOT / "var" / "log", help="folder of the logs (var/log)")
    parser.add_argument("--outcomes", type=Path, help="folder of what becomes of sessions (outcomes, beside the logs)")
    parser.add_argument("--etcd", default="", help="host:port of an etcd that runs already")
    parser.add_argument("--etcd-port", type=int, default=2379, help="of the etcd started here (2379)")
    parser.add_argument("--hosts", type=counts, default={}, help="hosts of a service, such as tts=2,render=2")
    parser.add_argument("--quiet", action="store_true", help="do not show the merged log")
    for name in SERVICES:
        parser.add_argument(f"--{name}-model", default="", help=f"model of the catalog for {name}")
    try:
        asyncio.run(up(parser.parse_args()))
    except NotReady as error:
        sys.exit(f"tools.up: {error}")


if __name__ == "__main__":
    main()
