"""How long a person waits: spoken questions in real time, through the whole mesh, measured at the client.

python -m tools.bench turn --json
python -m tools.bench turn --turns 40 --address HOST:PORT     against a mesh that runs already
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from talkmesh import (
    Audio,
    AudioInput,
    Client,
    ClientSession,
    FaceFrame,
    ReplyClause,
    SessionConfig,
    Started,
    TurnDone,
    Video,
    Wav,
    read_wav,
)
from tools.bench.drawing import drawing_ms
from tools.bench.figures import spread
from tools.bench.forwarding import host_added_ms
from tools.bench.machine import idle_cpu, machine, memory_mb
from tools.up import ROOT, RunningMesh, running_mesh

QUESTIONS = ("question.wav", "hello.wav")
VOICED = 0.02
"""Of full scale: samples below it, at the end of a question, are silence."""
WARM_UP_TURNS = 2
SMALL = 256
MOST_FACES = 600


@dataclass
class TurnTimes:
    """One turn as the client saw it, in ms from the last voiced sample it sent."""

    ttfa_ms: float
    ttfv_ms: float
    done: TurnDone


@dataclass
class Collected:
    """Everything measured."""

    turns: list[TurnTimes] = field(default_factory=list)
    render_ms: list[float] = field(default_factory=list)
    faces: list[FaceFrame] = field(default_factory=list)
    started: Started | None = None


def trailing_silence_ms(wav: Wav) -> float:
    """How long a 16 bit recording stays below VOICED at its end."""
    loud = int(VOICED * 32768)
    samples = memoryview(wav.data).cast("h")
    quiet = next((i for i, sample in enumerate(reversed(samples)) if abs(sample) >= loud), len(samples))
    return 1000 * quiet / wav.channels / wav.sample_rate_hz


async def one_turn(session: ClientSession, wav: Wav, found: Collected | None) -> TurnTimes:
    """Ask in real time. The last chunk leaves when its last sample would have been spoken."""
    sent_at = 0.0

    async def spoken() -> AsyncIterator[bytes]:
        nonlocal sent_at
        began = time.perf_counter()
        for start, data in wav.chunks():
            end = start + len(data) // wav.frame_bytes
            await asyncio.sleep(began + end / wav.sample_rate_hz - time.perf_counter())
            sent_at = time.perf_counter()
            yield data

    first_audio = first_video = 0.0
    replying = False
    silence_ms = trailing_silence_ms(wav)
    async for event in session.ask_audio(spoken()):
        match event:
            case ReplyClause():
                replying = True
            case Audio() if replying:
                first_audio = first_audio or time.perf_counter()
            case Video():
                if event.speaking:
                    first_video = first_video or time.perf_counter()
                if found:
                    found.render_ms.append(event.render_ms)
            case FaceFrame() if found:
                found.faces.append(event)
            case TurnDone():
                done = event
    if not first_video:
        raise RuntimeError(f"the turn brought no picture: {done.outcome.name}, heard {done.user_text!r}")
    to_audio, to_video = (1000 * (at - sent_at) + silence_ms for at in (first_audio, first_video))
    return TurnTimes(to_audio, to_video, done)


async def sessions(address: str, wavs: list[Wav], turns: int, size: int, each: int) -> Collected:
    """`turns` turns after the warm-up, in conversations of `each` turns."""
    found = Collected()
    asked = -WARM_UP_TURNS
    async with Client(address) as client:
        while asked < turns:
            wav = wavs[asked % len(wavs)]
            fmt = AudioInput(wav.sample_rate_hz, wav.channels, wav.is_float)
            async with client.session(SessionConfig(input=fmt, size=size, face_frames=True)) as session:
                found.started = session.started
                await asyncio.sleep(0.5)
                for _ in range(min(each, turns - asked)):
                    times = await one_turn(session, wavs[asked % len(wavs)], found if asked >= 0 else None)
                    if asked >= 0:
                        found.turns.append(times)
                        told = f"turn {asked + 1}: first audio {times.ttfa_ms:.0f} ms, face {times.ttfv_ms:.0f} ms"
                        print(told, file=sys.stderr, flush=True)
                    asked += 1
    return found


def waterfall(turns: list[TurnTimes], silence_ms: list[float]) -> tuple[dict[str, float], float]:
    """Mean ms of each part of the way to the first picture, and the share that no part explains, in percent.

    Means, because they add up: the parts and the unexplained rest tile the whole interval. Stages count the work of their
    engines; `mesh` is what the stages hold beside that: transport, forwarding, queueing.
    """
    parts: dict[str, float] = {"trailing_silence": fmean(silence_ms)}
    for name in (stage.name for stage in turns[0].done.stages):
        stages = [stage for times in turns for stage in times.done.stages if stage.name == name]
        parts[name] = sum(stage.duration_ms - stage.mesh_ms for stage in stages) / len(turns)
    parts["mesh"] = sum(stage.mesh_ms for times in turns for stage in times.done.stages) / len(turns)
    whole = fmean(times.ttfv_ms for times in turns)
    parts["unexplained"] = whole - sum(parts.values())
    return {name: round(value, 1) for name, value in parts.items()}, 100 * abs(parts["unexplained"]) / whole


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything and return the figures. Drawing, idle CPU and memory are measured on a mesh of our own only."""
    wavs = [read_wav(path) for path in options.wav]
    async with contextlib.AsyncExitStack() as stack:
        mesh: RunningMesh | None = None
        if not options.address:
            mesh = await stack.enter_async_context(running_mesh(ROOT / "var" / "log" / "bench"))
        address = mesh.address if mesh else options.address
        found = await sessions(address, wavs, options.turns, options.size, options.each)
        alone = await on_our_own(mesh, found, options.size) if mesh else {}
    silences = [trailing_silence_ms(wavs[i % len(wavs)]) for i in range(len(found.turns))]
    parts, unexplained = waterfall(found.turns, silences)
    in_turns = spread(found.render_ms)
    return {
        "turns": len(found.turns),
        "ttfa_ms": spread([turn.ttfa_ms for turn in found.turns]),
        "ttfv_ms": spread([turn.ttfv_ms for turn in found.turns]),
        "waterfall_ms": parts,
        "unexplained_pct": round(unexplained, 2),
        "render_ms": alone.pop("render_ms", in_turns),
        "render_in_turns_ms": in_turns,
        "animation_ms": spread([face.engine_ms for face in found.faces]),
        "host_added_ms": await host_added_ms(),
        "size": options.size,
        **alone,
        "machine": machine(),
    }


async def on_our_own(mesh: RunningMesh, found: Collected, size: int) -> dict[str, Any]:
    """What is measured on the mesh while nobody talks to it."""
    assert found.started is not None
    address = mesh.members["render"].address
    drawn = {each: await drawing_ms(address, found.started, found.faces[:MOST_FACES], each) for each in (size, SMALL)}
    return {
        "render_ms": spread(drawn[size]),
        f"render_{SMALL}_ms": spread(drawn[SMALL]),
        "idle_cpu_pct": await idle_cpu(await mesh.pids()),
        "memory_mb": memory_mb(await mesh.pids()),
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench turn", description=__doc__.split("\n")[0])
    data = ROOT / "tests" / "data"
    parser.add_argument("--turns", type=int, default=20, help="turns measured, after two that warm up")
    parser.add_argument("--each", type=int, default=2, help="turns a conversation")
    parser.add_argument("--size", type=int, default=512, help="picture size in pixels")
    parser.add_argument("--address", default="", help="a gateway that runs already; else a mesh is started")
    parser.add_argument("--wav", type=Path, nargs="+", default=[data / name for name in QUESTIONS])
    parser.add_argument("--json", action="store_true", help="figures as JSON on the last line")
    options = parser.parse_args(arguments)
    figures = asyncio.run(measure(options))
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))
