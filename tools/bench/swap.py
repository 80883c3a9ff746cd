"""What swapping a model does to those who are talking: paced streams while models come and go, and without.

python -m tools.bench swap --swaps 1000 --json                     fake models: what the mesh itself costs
python -m tools.bench swap --service tts --models heart,joe        real models, in conversations through the whole mesh
python -m tools.bench swap --peer mlserver                         the same load on MLServer beside it
"""

import argparse
import asyncio
import json
import sys
from typing import Any

from services.runtime.desired import SERVICES
from services.runtime.errors import DomainError
from services.runtime.host import leaves
from tools.bench.machine import machine
from tools.bench.peers import figures as peers
from tools.bench.swapping import fakes, mesh, report
from tools.bench.swapping.processes import NotReady
from tools.bench.swapping.wishes import SwapFailed
from tools.up import NotReady as MeshNotReady

FAKE = "fake"
FAKE_MODELS = "a,b,c,d,e,f"
"""More than two: a model that still drains when it is wanted again serves at once, and nothing would be loaded."""


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    if options.service == FAKE:
        found = await fakes.measure(options)
    else:
        found = await mesh.measure(options)
    found |= {"machine": machine(), "peer": {}}
    if options.peer:
        # Told already, for a peer may yet have to be installed, and whoever waits may lose patience.
        print(report.told(found), file=sys.stderr, flush=True)
        found["peer"] = await peers.measure(options)
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tools.bench swap",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--service", choices=(FAKE, *SERVICES), default=FAKE, help="whose model is swapped (fake)")
    add("--engine", choices=(FAKE, "real"), default="", help="fake is the same as --service fake")
    add("--models", default="", help=f"models that take turns ({FAKE_MODELS})")
    add("--swaps", type=int, default=0, help="(200; real models 10)")
    add("--streams", type=int, default=0, help="paced streams at a time (20); with real models, conversations (2)")
    add("--interval-ms", type=float, default=40, help="pace of a stream's chunks (40: at 20 two cores are busy enough)")
    add("--least-s", type=float, default=1, help="shortest stream (1)")
    add("--most-s", type=float, default=3, help="longest stream (3)")
    add("--load-s", type=float, default=0.5, help="processor time that a fake model takes to load (0.5)")
    add("--load-mb", type=int, default=64, help="memory of a fake model (64)")
    add("--drain-s", type=float, default=10, help="time that streams on the model before get to end (10)")
    add("--standby-s", type=float, default=0, help="time that the model before stays warm (0)")
    add("--block-s", type=float, default=20, help="length of a stretch with swaps (20)")
    add("--base-s", type=float, default=0, help="length of a stretch without; 0 is as long as with (0)")
    add("--hosts", type=int, default=2, help="hosts whose word is waited for in the rollbacks at the end (2)")
    add("--flips", type=int, default=100, help="rollbacks at the end (100)")
    add("--peer", choices=("mlserver",), default="", help="measure this one too, under the same load")
    add("--peer-swaps", type=int, default=50, help="(50)")
    add(
        "--peer-load",
        choices=("both", "thread", "inline"),
        default="both",
        help="where the peer's runtime loads (both)",
    )
    add("--json", action="store_true", help="figures as JSON on the last line")
    return made


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options, with what depends on the service filled in."""
    made = parser()
    options = made.parse_args(arguments)
    if options.engine == FAKE:
        options.service = FAKE
    if options.engine == "real" and options.service == FAKE:
        made.error("--engine real needs --service")
    is_fake = options.service == FAKE
    options.models = [name for name in (options.models or (FAKE_MODELS if is_fake else "")).split(",") if name]
    options.swaps = options.swaps or (200 if is_fake else 10)
    options.streams = options.streams or (20 if is_fake else 2)
    if len(options.models) < 2:
        made.error(f"--models: name at least two models of {options.service}")
    return options


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    try:
        found = asyncio.run(measure(options))
    except* (NotReady, MeshNotReady, SwapFailed, DomainError) as group:
        sys.exit(f"tools.bench swap: {'; '.join(map(str, leaves(group)))}")
    print(json.dumps(found) if options.json else report.told(found))
