"""One live session for a long time: does sound stay with the pictures, and the session's clock with the wall's?

    python -m tools.soak drift --minutes 30                          a mesh of its own
    python -m tools.soak drift --minutes 30 --address HOST:PORT      a gateway that runs already

Something is said every PAUSE_S. All times are taken where the media arrives. "drift_ms" is how far the session's clock and
the wall's have gone apart, by the pictures that came soonest in each ten seconds (Theil-Sen); "av_offset_ms" is a picture's
media time less that of the sound that came last; "late" pictures came more than a frame after they could have, "missing"
ones never. Exit status 1 when the drift is more than one frame, or the 95th percentile of the offset more than 45 ms, from
which on people notice (ITU-R BT.1359-1).
"""

import argparse
import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

from services.runtime.errors import DomainError
from services.runtime.host import leaves
from talkmesh import Audio, Client, LiveCall, SessionConfig, TalkmeshError, TurnDone, Video
from tools.bench.machine import machine
from tools.soak.clocks import Arrival, Arrivals
from tools.up import ROOT, NotReady, running_mesh

PAUSE_S = 12.0
NOTICED_MS = 45.0
LEAST_MINUTES = 0.6
TEXTS = (
    "The harbour wakes up early, long before the sun comes over the hills in the east.",
    "Nobody knows how many boats go out, but in the evening all of them are counted.",
    "On Sundays there is music on the square, and the bakery sells out before noon.",
)


async def listen(call: LiveCall, arrivals: Arrivals, done: list[TurnDone]) -> None:
    """Note everything that comes, until the call ends."""
    rate_hz = call.started.sample_rate_hz
    async for each in call.events():
        now = time.perf_counter()
        match each.event:
            case Video(start_sample=start):
                arrivals.pictures.append(Arrival(now, start / rate_hz))
            case Audio(start, _):
                arrivals.sound.append(Arrival(now, start / rate_hz))
            case TurnDone():
                done.append(each.event)


async def attend(address: str, minutes: float, size: int) -> dict[str, Any]:
    """Be in a session for so long. Raises TalkmeshError."""
    done: list[TurnDone] = []
    async with Client(address) as client, client.live(SessionConfig(size=size)) as call:
        arrivals = Arrivals(float(call.started.fps))
        listening = asyncio.create_task(listen(call, arrivals, done))
        try:
            until, said = time.perf_counter() + 60 * minutes, 0
            while time.perf_counter() < until:
                await call.say(TEXTS[said % len(TEXTS)])
                said += 1
                await asyncio.wait({listening}, timeout=max(0.0, min(PAUSE_S, until - time.perf_counter())))
                if listening.done():
                    listening.result()
        finally:
            listening.cancel()
    frame_ms = 1000 / arrivals.fps
    return arrivals.figures() | {"said": said, "heard": len(done), "frame_ms": frame_ms, "size": size}


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Raises NotReady, TalkmeshError."""
    async with AsyncExitStack() as stack:
        address = options.address
        if not address:
            address = (await stack.enter_async_context(running_mesh(ROOT / "var" / "log" / "soak"))).address
        return await attend(address, options.minutes, options.size) | {"machine": machine()}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tools.soak drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--minutes", type=float, default=30, help=f"how long, at least {LEAST_MINUTES} (30)")
    made.add_argument("--size", type=int, default=256, help="of the picture (256)")
    made.add_argument("--address", default="", help="a gateway that runs already; else a mesh is started")
    made.add_argument("--json", action="store_true", help="figures as JSON on the last line")
    return made


def main(arguments: list[str]) -> None:
    made = parser()
    options = made.parse_args(arguments)
    if options.minutes < LEAST_MINUTES:
        made.error(f"--minutes: at least {LEAST_MINUTES}")
    try:
        found = asyncio.run(measure(options))
    except* (NotReady, TalkmeshError, DomainError) as group:
        sys.exit(f"tools.soak drift: {'; '.join(map(str, leaves(group)))}")
    print(json.dumps(found) if options.json else json.dumps(found, indent=2))
    apart = abs(found["drift_ms"]) > found["frame_ms"]
    # Written so that an offset of nothing, which is no number, fails too.
    together = found["av_offset_ms"]["p95"] <= NOTICED_MS
    sys.exit(1 if apart or not together else 0)
