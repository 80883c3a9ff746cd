"""Live conversations as a person has them: human speech at the pace of real time, all times taken at the client.

python -m tools.bench live --json                        a mesh of its own
python -m tools.bench live --address HOST:PORT           a gateway that runs already
python -m tools.bench live --peer pipecat --json         pipecat beside it, on the same engine servers
python -m tools.bench live --svg docs/sessions.svg       the curve of sessions at once as a picture

"false_cutoff_rate" is of the questions with pauses, those of --pauses included; of arms beside ours, of all their turns.
Times count from the last voiced sample of a question (of an interruption: the first) as it is spoken, to the first (last)
sample that is loud enough to be heard, as it comes. "ratio" is our median over the peer's: below 1 we are faster.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.runtime.errors import DomainError
from services.runtime.host import leaves
from talkmesh import SessionConfig
from tools.bench.living import arms, crowd, report
from tools.bench.living.arms import OURS, PAUSES, VOICE, Kept, Open, Outcome, Wanted
from tools.bench.living.recordings import NoSpeech, corpus
from tools.bench.living.speech import Speech
from tools.bench.machine import machine
from tools.bench.peers import pipecat, pipecat_figures
from tools.bench.swapping.processes import NotReady
from tools.up import CROWDED, ROOT, running_mesh
from tools.up import NotReady as MeshNotReady

ENGINES = ("asr", "llm", "tts")


@dataclass(frozen=True)
class Place:
    """Where the gateway and the engine servers are."""

    gateway: str
    engines: Mapping[str, str]


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything that was asked for and return the figures. Raises NoSpeech, NotReady."""
    async with AsyncExitStack() as stack:
        made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-speech-")))
        most = max(options.turns + 2 * options.pauses, 2 * options.barge_ins, 4)
        speeches = await asyncio.to_thread(corpus, options.speech, made, most)
        place = await placed(options, stack)
        found, kept = await conversations(options, place, speeches, made)
        sessions = await crowds(options, place, speeches)
    paused = {speech.name for speech in speeches if speech.pauses}
    figures = report.of_outcome(found[OURS]) | report.of_records(kept)
    cut_off = report.with_pauses([found[OURS], found[PAUSES]], paused)
    if VOICE in found:
        figures["voice_only"] = report.of_outcome(found[VOICE])
    return figures | {
        "false_cutoff_rate": cut_off["rate"],
        "cut_off_in_pauses": cut_off,
        "sessions": sessions,
        "peer": pipecat_figures.figures(found, paused) if options.peer else {},
        "size": options.size,
        "machine": machine(),
    }


async def placed(options: argparse.Namespace, stack: AsyncExitStack) -> Place:
    """A gateway that runs already, or one of our own."""
    if options.address:
        return Place(options.address, options.engines)
    mesh = await stack.enter_async_context(running_mesh(ROOT / "var" / "log" / "bench", extra={"gateway": CROWDED}))
    return Place(mesh.address, {name: mesh.members[name].address for name in ENGINES})


async def conversations(
    options: argparse.Namespace, place: Place, speeches: list[Speech], folder: Path
) -> tuple[dict[str, Outcome], Kept]:
    """One person at a time."""
    kept = Kept()
    config, wanted = SessionConfig(size=options.size), Wanted(options.max_reply_tokens, options.seed)
    who: dict[str, Open] = {OURS: arms.ours(place.gateway, config, kept)}
    async with AsyncExitStack() as stack:
        if options.peer:
            who[VOICE] = arms.ours(place.gateway, replace(config, video=False), Kept())
            with contextlib.suppress(pipecat_figures.NotMeasured):
                runtime = await stack.enter_async_context(pipecat_figures.running(folder, place.engines))
                for arm in options.peer_arms:
                    who[arm] = pipecat_figures.arm(runtime, arm)
        found = await arms.take_turns(who, speeches[: options.turns], wanted, options.turns, tell)
        more = [speech for speech in speeches[options.turns :] if speech.pauses][: options.pauses]
        alone = {PAUSES: arms.ours(place.gateway, config, Kept())}
        found |= await arms.take_turns(alone, more, wanted, len(more), tell) if more else {PAUSES: Outcome()}
        await arms.interrupt(who, plain(speeches), wanted, found, options.barge_ins, tell)
    return found, kept


async def crowds(options: argparse.Namespace, place: Place, speeches: list[Speech]) -> list[dict[str, Any]]:
    """Several people at once; the curve is drawn as soon as it is there."""
    wanted = Wanted(options.max_reply_tokens, options.seed)
    kinds = [
        crowd.Crowd(
            place.gateway,
            plain(speeches),
            options.typed,
            options.crowd_s,
            arms.configured(SessionConfig(size=size), wanted),
        )
        for size in options.sizes
    ]
    rows = await crowd.curve(kinds, options.sessions, tell)
    if options.svg and rows:
        options.svg.write_text(report.drawn(rows))
    return rows


def plain(speeches: list[Speech]) -> list[Speech]:
    """Those without pauses."""
    return [speech for speech in speeches if not speech.pauses] or speeches


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def addresses(text: str) -> dict[str, str]:
    """ "asr=h:1,llm=h:2,tts=h:3" by name. Raises ArgumentTypeError."""
    found = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if set(found) != set(ENGINES):
        raise argparse.ArgumentTypeError(f"{text!r} is not asr=HOST:PORT,llm=HOST:PORT,tts=HOST:PORT")
    return found


def names(text: str) -> list[str]:
    """Arms of the peer, separated by commas. Raises ArgumentTypeError."""
    found = [name for name in text.split(",") if name]
    if unknown := set(found) - set(pipecat.ARMS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(pipecat.ARMS)}")
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tools.bench live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--turns", type=int, default=20, help="questions, after one that warms up (20)")
    add("--pauses", type=int, default=0, help="more questions with pauses, to us alone: how often they are cut off (0)")
    add("--barge-ins", type=int, default=10, help="answers that are interrupted (10)")
    add("--sessions", type=int, default=6, help="most sessions at once; 0 measures none (6)")
    add("--sizes", type=int, nargs="+", default=[256, 512], help="picture sizes of the sessions at once (256 512)")
    add("--crowd-s", type=float, default=30, help="how long each number of sessions is kept up (30)")
    add("--typed", action="store_true", help="sessions at once ask in writing")
    add("--size", type=int, default=512, help="picture size of the single conversations (512)")
    add("--max-reply-tokens", type=int, default=48, help="longest reply (48)")
    add("--seed", type=int, default=7, help="of the replies (7)")
    add("--speech", type=Path, help="a folder of recordings to speak instead of those of tools.bench.speech")
    add("--address", default="", help="a gateway that runs already; else a mesh is started")
    add("--engines", type=addresses, default={}, help="its servers, for the peer: asr=HOST:PORT,llm=…,tts=…")
    add("--peer", choices=("pipecat",), default="", help="measure this one too, in turns with ours")
    add("--peer-arms", type=names, default=["default", "tuned"], help="default, tuned, token (default,tuned)")
    add("--svg", type=Path, help="where the curve of sessions at once is drawn")
    add("--json", action="store_true", help="figures as JSON on the last line")
    return made


def parsed(arguments: list[str]) -> argparse.Namespace:
    made = parser()
    options = made.parse_args(arguments)
    if options.peer and options.address and not options.engines:
        made.error("--peer with --address needs --engines")
    return options


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    try:
        found = asyncio.run(measure(options))
    except* (NoSpeech, NotReady, MeshNotReady, DomainError) as group:
        sys.exit(f"tools.bench live: {'; '.join(map(str, leaves(group)))}")
    print(json.dumps(found) if options.json else json.dumps(found, indent=2))
