"""pipecat's turns among ours, and what comes of them."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tools.bench.living import report
from tools.bench.living.arms import OURS, PAUSES, VOICE, Open, Outcome, Talker, Wanted
from tools.bench.living.speech import Speech
from tools.bench.peers import mlserver, pipecat


class NotMeasured(Exception):
    """The peer cannot be had here: our own figures are not to be lost over this."""


@asynccontextmanager
async def running(folder: Path, engines: Mapping[str, str]) -> AsyncIterator[pipecat.Runtime]:
    """The peer's process. Raises NotMeasured, having said why."""
    try:
        await pipecat.installed()
    except mlserver.NotInstalled as error:
        print(f"{pipecat.NAME} cannot be installed here: {error}", file=sys.stderr, flush=True)
        raise NotMeasured from error
    async with pipecat.running(folder, engines) as runtime:
        yield runtime


def arm(runtime: pipecat.Runtime, name: str) -> Open:
    """Sessions of the peer."""

    @asynccontextmanager
    async def open(speech: Speech, wanted: Wanted) -> AsyncIterator[Talker]:
        async with runtime.conversation(name, speech.silence, wanted) as conversation:
            yield conversation

    return open


def figures(found: Mapping[str, Outcome], paused: set[str]) -> dict[str, Any]:
    """The peer's figures: as it comes, and each arm. Without any, only why."""
    about: dict[str, Any] = {"name": pipecat.NAME, "version": pipecat.VERSION}
    measured = {name: outcome for name, outcome in found.items() if name not in (OURS, VOICE, PAUSES)}
    if not measured:
        return about | {"not_measured": "cannot be installed here"}
    told = {name: of_arm(outcome, found, paused) for name, outcome in measured.items()}
    first = told[next(iter(told))]
    return about | {"ttfa_ms": first["ttfa_ms"], "ratio": first["paired"]["ratio"], "arms": told}


def of_arm(outcome: Outcome, found: Mapping[str, Outcome], paused: set[str]) -> dict[str, Any]:
    """One arm beside ours with the face, and beside ours without one, as the peer has none."""
    told = report.of_outcome(outcome) | {"cut_off_in_pauses": report.with_pauses([outcome], paused)}
    told |= {"paired": report.paired(found[OURS].turns, outcome.turns)}
    if VOICE in found:
        told["paired_voice_only"] = report.paired(found[VOICE].turns, outcome.turns)
    return told
