"""No engine process outlives its host, however that ends."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from services.runtime import sockets
from tests.fakes.hosts import ROOT, Host, gone, running

pytestmark = pytest.mark.mesh
SOON_S = 2.0


async def engine_of(host: Host) -> int:
    """The engine process's id, told by the system rather than by the host."""
    while True:
        for child in psutil.Process(host.process.pid).children():
            if "services.runtime.engine_process" in child.cmdline():
                return child.pid
        await asyncio.sleep(0.01)


async def killed(host: Host) -> None:
    host.signal(signal.SIGKILL)
    assert await host.exit_code() == -signal.SIGKILL


@pytest.mark.parametrize("options", [{}, {"hang": True}, {"block": True}], ids=["serving", "loading", "blocked"])
async def test_killing_the_host_ends_the_engine_process(options: dict[str, bool]) -> None:
    catalog = {"parrot": {"engine": "echo", "options": options}}
    async with running(catalog, ready=not options) as host:
        engine = await engine_of(host)
        if not options:
            talk = host.talk()
            await talk.start()
            await talk.say("hang")
        await killed(host)
        await gone(engine, SOON_S)


async def test_killing_the_host_ends_an_engine_process_that_is_just_starting() -> None:
    for delay_s in (0.0, 0.03, 0.1):
        async with running(ready=False) as host:
            engine = await engine_of(host)
            await asyncio.sleep(delay_s)
            await killed(host)
            await gone(engine, SOON_S)


async def test_what_a_killed_host_leaves_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as host:
        (left,) = host.socket_folders()
        await killed(host)
        assert left.exists()
        monkeypatch.setattr(tempfile, "tempdir", str(host.temporary))
        os.utime(left, (0, 0))
        with sockets.socket_folder() as own:
            assert host.socket_folders() == [own]


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs the right to make a namespace")
async def test_a_host_that_is_process_one_keeps_its_engine() -> None:
    """As it is in a container."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespaces here")
    # The parent's id is another one inside, so the tie of the test to its host is left out.
    async with running(before=unshare, environment={"TALKMESH_PARENT_PID": ""}) as host:
        assert await host.ask("hello") == "hello"
        assert (await host.model()).restarts == 0
        (inner,) = psutil.Process(host.process.pid).children()
        inner.terminate()
        assert await host.exit_code() == 0


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
CHILD = """
import asyncio, os
from services.runtime import lifeline
{body}
"""
BY_SIGNAL = "lifeline.die_with_parent(os.getppid()); print(flush=True); __import__('time').sleep(60)"
BY_PIPE = """
async def main():
    lifeline.end_with_parent()
    print(flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("body", [BY_SIGNAL, BY_PIPE], ids=["signal", "pipe"])
async def test_each_tie_holds_alone(body: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, CHILD.format(body=body)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.kill()
    await parent.wait()
    await gone(child, SOON_S)


async def test_a_child_whose_parent_is_gone_already_ends() -> None:
    body = CHILD.format(body="lifeline.die_with_parent(os.getppid() + 1); print('still here')")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", body), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    stdout, _ = await child.communicate()
    assert (child.returncode, stdout) == (1, b"")
