"""A user's turns whose truth is known: where the voice ends for good, and which pauses come before."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tools.bench.speech.levels import FRAME, RATE_HZ, Samples, Stretch, has_room, pauses, room_noise, voices
from tools.bench.speech.recordings import Gap, Place, Recording

LEAD_S, TAIL_S, LONGEST_S = 0.4, 3.0, 17.0
FADE = FRAME // 2
SHORTEST_MS, LONGEST_MS = 300, 1_000
NATURAL_MS = 200
"""What a pause that is there already has at least."""
INSERTED = 2
"""Most variations of a recording."""


@dataclass(frozen=True)
class Pause:
    stretch: Stretch
    place: Place
    after: str
    natural: bool


@dataclass(frozen=True)
class SpokenTurn:
    """One turn at 16 kHz, in the noise of its own room."""

    name: str
    recording: Recording
    audio: Samples
    ends_at: int
    """The sample behind the last voiced one."""
    pauses: tuple[Pause, ...]
    """Of 300 ms and more, before the end."""


def turns(recordings: list[Recording], folder: Path) -> Iterator[SpokenTurn]:
    """Each recording as it is, then with a pause at up to two places, one at a time.

    Left out are very long ones, and those whose room would be made of a piece of a word.
    """
    for recording in recordings:
        audio = recording.samples(folder)
        if len(audio) > LONGEST_S * RATE_HZ or not has_room(audio):
            continue
        yield assembled(recording, audio, None, 0)
        chance = random.Random(recording.name)
        places = [gap for gap in recording.gaps if gap.place != "sentence"]
        for gap in chance.sample(places, min(INSERTED, len(places))):
            shorter = NATURAL_MS if gap.natural else 0
            yield assembled(recording, audio, gap, chance.randint(SHORTEST_MS, LONGEST_MS) - shorter)


def assembled(recording: Recording, audio: Samples, gap: Gap | None, pause_ms: int) -> SpokenTurn:
    """`audio` between noise, with a pause of `pause_ms` at `gap`."""
    lead, tail = (room_noise(audio, int(seconds * RATE_HZ)) for seconds in (LEAD_S, TAIL_S))
    speech = [audio]
    if gap:
        speech = [audio[: gap.at], room_noise(audio, pause_ms * RATE_HZ // 1000), audio[gap.at :]]
    whole = joined([lead, *(piece.copy() for piece in speech), tail])
    heard = voices(whole[: len(whole) - len(tail)])
    name = f"{recording.name}+{pause_ms}@{gap.after}" if gap else recording.name
    return SpokenTurn(name, recording, whole, heard[-1].end, tuple(placed(whole, recording, len(lead), gap, pause_ms)))


def placed(whole: Samples, recording: Recording, lead: int, gap: Gap | None, pause_ms: int) -> Iterator[Pause]:
    """The pauses that are to be heard, each with the gap that it lies in or nearest to."""
    shift = pause_ms * RATE_HZ // 1000
    at = {lead + other.at + (shift if gap and other.at > gap.at else 0): other for other in recording.gaps}
    if gap:
        at[lead + gap.at + shift // 2] = gap
    found = pauses(whole, SHORTEST_MS)
    if gap and not any(stretch.start <= lead + gap.at + shift // 2 <= stretch.end for stretch in found):
        found = sorted([*found, Stretch(lead + gap.at, lead + gap.at + shift)], key=lambda stretch: stretch.start)
    for stretch in found:
        nearest = min(at, key=lambda position: abs(position - (stretch.start + stretch.end) // 2), default=None)
        if nearest is not None:
            yield Pause(stretch, at[nearest].place, at[nearest].after, at[nearest] is not gap)


def joined(pieces: list[Samples]) -> Samples:
    """One behind the other, with edges so soft that none clicks."""
    ramp = np.linspace(0, 1, FADE, dtype=np.float32)
    for before, after in pairwise(pieces):
        if len(before) >= FADE and len(after) >= FADE:
            before[-FADE:] *= ramp[::-1]
            after[:FADE] *= ramp
    return np.concatenate(pieces)
