"""The operator's command line as a user runs it, on a real etcd, with hosts that the tests speak for."""

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from services.runtime import desired
from services.runtime.desired import SlotWish
from services.runtime.etcd import Etcd, connected, etcd_settings
from talkmesh.model.v1 import model_pb2
from tests.fakes.operators import Told, control_plane, write_catalog
from tools.etcd import running_etcd

WITHIN_S = 30.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running_etcd(tmp_path_factory.mktemp("cli") / "etcd", sync=False) as server:
        yield server.endpoint


@pytest.fixture
async def etcd(server: str) -> AsyncIterator[Etcd]:
    async with connected(etcd_settings(server)) as etcd:
        await etcd.delete(desired.PREFIX, prefix=True)
        await write_catalog(etcd)
        yield etcd


@pytest.fixture
async def gateway(etcd: Etcd) -> AsyncIterator[str]:
    async with control_plane(etcd) as (address, _):
        yield address


async def started(gateway: str, *arguments: str, **pipes: Any) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "talkmesh", "--address", gateway, *arguments),
        **{"stdout": PIPE, "stderr": PIPE, **pipes},
    )


async def ended(process: Process) -> tuple[int, str, str]:
    """Exit code, output and errors; no command may ever show a traceback."""
    async with asyncio.timeout(WITHIN_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return process.returncode, (out or b"").decode(), (err or b"").decode()


async def talkmesh(gateway: str, *arguments: str) -> tuple[int, str, str]:
    return await ended(await started(gateway, *arguments))


async def wish(etcd: Etcd, model: str) -> int:
    """The generation by which the stable voice wants a model, once it does."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        found = await etcd.get(desired.slot_key("tts"))
        if found and desired.parsed(SlotWish, found.value).model == model:
            return desired.generation_of(found.create_revision, found.version)
        await asyncio.sleep(0.02)
    raise AssertionError(f"{model} was never wanted")


async def line_with(process: Process, *words: str) -> str:
    """The next line of output that has all words."""
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        while line := (await process.stdout.readline()).decode():
            if all(word in line for word in words):
                return line
    raise AssertionError(f"the command ended without {words}")


async def test_swap_shows_each_phase_and_ends_when_every_host_serves(gateway: str, etcd: Etcd) -> None:
    one, two = Told(etcd), Told(etcd, instance="tts-2")
    await one.tell()
    await two.tell()
    process = await started(gateway, "swap", "tts", "joe", "--reason", "warmer", "--actor", "ann")
    generation = await wish(etcd, "joe")
    await line_with(process, f"tts/stable: heart → joe, generation {generation}")
    for phase in (model_pb2.PHASE_LOADING, model_pb2.PHASE_WARMING):
        await one.tell(phase, "joe", generation)
        await line_with(process, "tts-1", model_pb2.Phase.Name(phase).removeprefix("PHASE_"))
    await one.serve("joe", generation)
    await line_with(process, "tts-1", "SERVING")
    await two.serve("joe", generation)
    code, out, err = await ended(process)
    assert (code, err) == (0, "")
    assert "tts-2: SERVING" in out
    assert "served by 2 hosts after" in out
    assert "tts-1: loading 1.25 s · warming 0.50 s; memory 100 MB → 160 MB" in out


async def test_swap_as_json(gateway: str, etcd: Etcd) -> None:
    host = Told(etcd)
    await host.tell()
    process = await started(gateway, "swap", "tts", "joe", "--expect", "heart", "--drain", "3", "--json")
    generation = await wish(etcd, "joe")
    await host.serve("joe", generation)
    code, out, _ = await ended(process)
    assert code == 0
    told = json.loads(out)
    assert {
        key: told[key] for key in ("service", "slot", "model", "model_before", "generation", "outcome", "cause")
    } == {
        "service": "tts",
        "slot": "stable",
        "model": "joe",
        "model_before": "heart",
        "generation": generation,
        "outcome": "served",
        "cause": "human",
    }
    assert re.fullmatch(r".+@.+", told["actor"])
    assert told["hosts"][0]["timings_s"] == {"LOADING": 1.25, "WARMING": 0.5}
    found = await etcd.get(desired.slot_key("tts"))
    assert found is not None
    assert desired.parsed(SlotWish, found.value).drain_s == 3


async def test_a_swap_that_fails_on_a_host_says_where_and_why(gateway: str, etcd: Etcd) -> None:
    one, two = Told(etcd), Told(etcd, instance="tts-2")
    await one.tell()
    await two.tell()
    process = await started(gateway, "swap", "tts", "joe", "--json")
    generation = await wish(etcd, "joe")
    await one.serve("joe", generation)
    await two.tell(model_pb2.PHASE_FAILED, "joe", generation, error="sha256 is not the catalog's")
    code, out, err = await ended(process)
    assert code == 1
    assert "joe failed on tts-2: sha256 is not the catalog's" in err
    assert json.loads(out)["outcome"] == "failed"
    assert "sha256" in json.loads(out)["error"]


async def test_an_old_failure_is_not_this_one(gateway: str, etcd: Etcd) -> None:
    host = Told(etcd)
    await host.tell(model_pb2.PHASE_FAILED, "ann", 1, error="of long ago")
    process = await started(gateway, "swap", "tts", "joe")
    generation = await wish(etcd, "joe")
    await host.serve("joe", generation)
    assert (await ended(process))[0] == 0


async def test_a_swap_that_takes_too_long_says_what_it_waits_for(gateway: str, etcd: Etcd) -> None:
    assert (await talkmesh(gateway, "swap", "tts", "ann", "--no-wait"))[0] == 0
    await Told(etcd).tell(model_pb2.PHASE_LOADING, "joe", await wish(etcd, "ann") + 1)
    code, _, err = await talkmesh(gateway, "swap", "tts", "joe", "--timeout", "1.5")
    assert code == 6
    assert "not served everywhere after 1.5 s: tts-1: LOADING" in err
    code, _, err = await talkmesh(gateway, "swap", "llm", "small", "--timeout", "0.5")
    assert code == 6
    assert "no host of llm is there" in err


async def test_a_swap_that_somebody_else_was_faster_with(gateway: str, etcd: Etcd) -> None:
    assert (await talkmesh(gateway, "swap", "tts", "ann", "--no-wait", "--actor", "bob"))[0] == 0
    code, out, err = await talkmesh(gateway, "swap", "tts", "joe", "--expect", "heart")
    assert (code, out) == (5, "")
    assert "wants 'ann'" in err
    assert "by bob" in err


async def test_a_swap_that_a_newer_one_takes_over(gateway: str, etcd: Etcd) -> None:
    host = Told(etcd)
    await host.tell()
    process = await started(gateway, "swap", "tts", "joe")
    generation = await wish(etcd, "joe")
    await host.tell(model_pb2.PHASE_LOADING, "ann", generation + 1)
    code, out, err = await ended(process)
    assert code == 5
    assert f"was overtaken by {generation + 1} (ann)" in err
    assert "overtaken by generation" in out


async def test_swap_without_waiting(gateway: str, etcd: Etcd) -> None:
    code, out, _ = await talkmesh(gateway, "swap", "tts", "joe", "--no-wait", "--slot", "candidate")
    assert code == 0
    assert "tts/candidate: joe, generation" in out
    code, out, _ = await talkmesh(gateway, "swap", "tts", "ann", "--no-wait", "--slot", "candidate", "--json")
    assert code == 0
    assert (json.loads(out)["model_before"], json.loads(out)["outcome"]) == ("joe", "wanted")


async def test_rollback_waits_too(gateway: str, etcd: Etcd) -> None:
    host = Told(etcd)
    for model in ("heart", "joe"):
        await talkmesh(gateway, "swap", "tts", model, "--no-wait")
    process = await started(gateway, "rollback", "tts", "--reason", "hiss")
    generation = await wish(etcd, "heart")
    await host.serve("heart", generation)
    code, out, _ = await ended(process)
    assert code == 0
    assert f"joe → heart, generation {generation}" in out
    code, out, _ = await talkmesh(gateway, "history", "tts", "-n", "2", "--json")
    assert code == 0
    assert [(each["model"], each["reason"]) for each in json.loads(out)] == [
        ("heart", f"rollback of generation {generation - 1}: hiss"),
        ("joe", ""),
    ]
    code, _, err = await talkmesh(gateway, "rollback", "llm")
    assert code == 1
    assert "earlier usable model of llm slot 'stable'" in err


async def test_models_shows_catalog_hosts_marks_and_problems(gateway: str, etcd: Etcd) -> None:
    await Told(etcd).tell(streams=2)
    await etcd.put(desired.model_key("tts", "odd"), '{"engine": 7}')
    assert (await talkmesh(gateway, "swap", "tts", "heart", "--no-wait"))[0] == 0
    assert (await talkmesh(gateway, "veto", "tts", "ann", "--reason", "too loud", "--actor", "bob"))[0] == 0
    assert (await talkmesh(gateway, "preload", "tts", "joe"))[0] == 0
    code, out, _ = await talkmesh(gateway, "models")
    assert code == 0
    rows = {line.split()[1]: line for line in out.splitlines() if line.startswith(("tts ", "llm "))}
    assert re.search(r"hibari +stable +tts-1 +ACTIVE +2 +100 MB +- +-$", rows["heart"])
    assert re.search(r"- +yes +-$", rows["joe"])
    assert rows["ann"].endswith("too loud (bob)")
    assert "small" in rows
    assert "models/tts/odd: engine: Input should be a valid string" in out
    code, out, _ = await talkmesh(gateway, "models", "tts", "--json")
    found = {model["model"]: model for model in json.loads(out)["models"]}
    assert set(found) == {"heart", "joe", "ann"}
    assert (found["joe"]["preload"], found["heart"]["hosts"][0]["streams"]) == (True, 2)
    assert (await talkmesh(gateway, "preload", "tts", "joe", "--off"))[0] == 0
    assert (await talkmesh(gateway, "unveto", "tts", "ann"))[0] == 0
    code, _, err = await talkmesh(gateway, "unveto", "tts", "ann")
    assert code == 1
    assert "veto" in err


async def test_what_is_refused_says_why(gateway: str, etcd: Etcd) -> None:
    assert (await talkmesh(gateway, "swap", "tts", "heart", "--no-wait"))[0] == 0
    code, _, err = await talkmesh(gateway, "evict", "tts", "heart")
    assert code == 1
    assert "wanted in slot 'stable'" in err
    assert (await talkmesh(gateway, "veto", "tts", "joe", "--reason", "bad \x1b[2J news"))[0] == 0
    code, _, err = await talkmesh(gateway, "swap", "tts", "joe")
    assert code == 1
    assert "vetoed: bad" in err
    assert "\x1b" not in err
    code, _, err = await talkmesh(gateway, "swap", "tts", "nobody")
    assert code == 1
    assert "known: ann, heart, joe" in err


async def test_evict_is_told_to_the_hosts(gateway: str, etcd: Etcd) -> None:
    assert (await talkmesh(gateway, "evict", "tts", "joe", "--actor", "ann"))[0] == 0
    found = await etcd.get(desired.eviction_key("tts", "joe"))
    assert found is not None
    assert found.lease


@pytest.mark.parametrize(
    "arguments", [("swap", "tts"), ("swap", "tts", "joe", "--timeout", "nan"), ("swap", "tts", "joe", "--drain=-1"), ()]
)
async def test_wrong_use(arguments: tuple[str, ...]) -> None:
    assert (await talkmesh("127.0.0.1:9", *arguments))[0] == 2


async def test_no_gateway(etcd: Etcd) -> None:
    for arguments in (("models",), ("watch",), ("swap", "tts", "joe"), ("history", "tts")):
        code, _, err = await talkmesh("127.0.0.1:9", *arguments)
        assert code == 4
        assert "127.0.0.1:9" in err


async def test_watch_tells_every_change_as_json(gateway: str, etcd: Etcd) -> None:
    host = Told(etcd)
    process = await started(gateway, "watch", "--json")
    assert json.loads(await line_with(process, "etcd")) == {"etcd": "CURRENT"}
    await host.tell()
    first = json.loads(await line_with(process, "tts-1"))
    assert (first["service"], first["slots"][0]["model"], first["slots"][0]["phase"]) == ("tts", "heart", "ACTIVE")
    await host.tell(model_pb2.PHASE_LOADING, "joe", 9, streams=4)
    change = json.loads(await line_with(process, "LOADING"))
    assert (change["slots"][0]["wanted_model"], change["slots"][0]["wanted_generation"]) == ("joe", 9)
    assert change["models"][0]["streams"] == 4
    await host.leave()
    assert json.loads(await line_with(process, "gone")) == {"service": "tts", "instance": "tts-1", "gone": True}
    process.send_signal(signal.SIGINT)
    code, out, err = await ended(process)
    assert (code, out, err) == (130, "", "")


async def test_watch_tells_lines_where_nothing_can_be_redrawn(gateway: str, etcd: Etcd) -> None:
    host = Told(etcd)
    await host.tell()
    process = await started(gateway, "watch")
    await line_with(process, "tts tts-1", "slot stable", "heart", "ACTIVE")
    await host.tell(model_pb2.PHASE_FAILED, "joe", 9, error="no\x07 file")
    assert "\x07" not in await line_with(process, "wants joe (9)", "FAILED", "file")
    await host.leave()
    await line_with(process, "tts tts-1 is gone")
    process.send_signal(signal.SIGINT)
    assert (await ended(process))[0] == 130


async def test_watch_goes_on_when_the_gateway_comes_back(etcd: Etcd) -> None:
    host = Told(etcd)
    await host.tell()
    async with control_plane(etcd) as (address, _):
        process = await started(address, "watch", "--json")
        await line_with(process, "tts-1")
    await asyncio.sleep(2.5)
    async with control_plane(etcd, int(address.rpartition(":")[2])):
        await host.serve("joe", 5)
        assert json.loads(await line_with(process, "tts-1"))["slots"][0]["model"] == "joe"
        process.send_signal(signal.SIGINT)
        code, _, err = await ended(process)
        assert code == 130
        assert len(err.splitlines()) == 1, "an outage is told once"


async def test_watch_into_a_pipe_that_closes(gateway: str, etcd: Etcd) -> None:
    host = Told(etcd)
    await host.tell()
    reading, writing = os.pipe()
    process = await started(gateway, "watch", "--json", stdout=writing)
    os.close(writing)
    await asyncio.get_running_loop().run_in_executor(None, os.read, reading, 10)
    os.close(reading)
    for generation in range(1, 4):
        await host.serve("joe", generation)
        await asyncio.sleep(0.1)
    code, _, err = await ended(process)
    assert (code, err) == (0, "")


@dataclass
class Screen:
    """What a command has written to its terminal."""

    process: Process
    text: str = ""

    async def until(self, condition: Callable[[str], Any]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text
            await asyncio.sleep(0.02)


@asynccontextmanager
async def on_terminal(gateway: str, *arguments: str) -> AsyncIterator[Screen]:
    """A command on a terminal of its own."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "40"}
    process = await started(gateway, *arguments, stdout=theirs, env=environment)
    os.close(theirs)
    screen = Screen(process)
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            screen.text += os.read(ours, 65536).decode(errors="replace")
        except OSError:
            loop.remove_reader(ours)

    loop.add_reader(ours, read)
    try:
        yield screen
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_watch_redraws_in_place_on_a_terminal(gateway: str, etcd: Etcd) -> None:
    host = Told(etcd)
    await host.tell()
    async with on_terminal(gateway, "watch") as screen:
        await screen.until(lambda text: re.search(r"tts +tts-1 +stable +heart +0 +- +ACTIVE", text))
        await host.tell(model_pb2.PHASE_WARMING, "joe", 9)
        await screen.until(lambda text: re.search(r"\x1b\[\dF\x1b\[J.*heart +0 +joe \(9\) +WARMING", text, re.DOTALL))
        screen.process.send_signal(signal.SIGINT)
        assert (await ended(screen.process))[0] == 130


async def test_swap_on_a_terminal_draws_each_host_once(gateway: str, etcd: Etcd) -> None:
    host = Told(etcd)
    await host.tell()
    async with on_terminal(gateway, "swap", "tts", "joe") as screen:
        generation = await wish(etcd, "joe")
        await host.tell(model_pb2.PHASE_LOADING, "joe", generation)
        await screen.until(lambda text: "tts-1: LOADING" in text)
        await host.serve("joe", generation)
        assert (await ended(screen.process))[0] == 0
        await screen.until(lambda text: "served by 1 host after" in text)
        assert re.search(r"LOADING\r\n\x1b\[1F\x1b\[J  tts-1: SERVING", screen.text)


async def test_interrupting_a_wait_is_no_disaster(gateway: str, etcd: Etcd) -> None:
    await Told(etcd).tell()
    process = await started(gateway, "swap", "tts", "joe")
    await line_with(process, "tts-1")
    process.send_signal(signal.SIGINT)
    code, _, err = await ended(process)
    assert (code, err) == (130, "")
