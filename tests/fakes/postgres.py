"""A real PostgreSQL with a folder of its own, which can be killed and started again with what it had."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tools.etcd import free_port

USER, DATABASE, PASSWORD = "talkmesh", "outcomes", "hush-hush"
READY_S = 60.0


def program(name: str) -> str:
    """The newest that Debian has installed, or that of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda each: int(each.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    assert path, f"no {name}: install the package postgresql"
    return path


def account() -> str | None:
    """Whom it runs as: it refuses to be root."""
    return "postgres" if os.geteuid() == 0 else None


@dataclass
class Postgres:
    """Use `postgres`."""

    folder: Path
    port: int
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"

    async def make(self) -> None:
        """An empty cluster with our user."""
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        if user := account():
            for path in (self.folder, secret):
                os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        options = ("--auth=scram-sha-256", f"--pwfile={secret}", f"--username={USER}", "--no-sync", "--encoding=UTF8")
        making = await self._run("initdb", "-D", str(self.folder / "data"), "--locale=C", *options)
        assert await making.wait() == 0, (self.folder / "log").read_text()
        await self.start()
        connection = await self.connect("postgres")
        await connection.execute(f"CREATE DATABASE {DATABASE}")
        await connection.close()

    async def start(self) -> None:
        """Start it and wait until it answers, also while what was killed is still going."""
        options = ("-c", "fsync=off", "-c", f"unix_socket_directories={self.folder}", "-h", "127.0.0.1")
        deadline = time.monotonic() + READY_S
        while True:
            if self.process is None or self.process.returncode is not None:
                self.process = await self._run(
                    "postgres", "-D", str(self.folder / "data"), "-p", str(self.port), *options
                )
            try:
                await (await self.connect("postgres")).close()
                return
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                await asyncio.sleep(0.1)

    async def connect(self, database: str = DATABASE) -> "asyncpg.Connection[asyncpg.Record]":
        where = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        return await asyncpg.connect(**where, database=database, timeout=5)

    async def fetch(self, query: str) -> list[tuple[object, ...]]:
        connection = await self.connect()
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def kill(self) -> None:
        """`kill -9` of the server."""
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    async def _run(self, name: str, *arguments: str) -> asyncio.subprocess.Process:
        with (self.folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                program(name), *arguments, stdout=log, stderr=log, cwd=self.folder, user=account(), group=account()
            )


@asynccontextmanager
async def postgres() -> AsyncIterator[Postgres]:
    """A PostgreSQL that runs; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="tm-pg-", ignore_cleanup_errors=True) as folder:
        made = Postgres(Path(folder), free_port())
        try:
            await made.make()
            yield made
        finally:
            if made.process and made.process.returncode is None:
                made.signal(signal.SIGINT)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(made.process.wait(), 10)
                await made.kill()
