"""Turns made from recordings: silence is put only where there is some to put."""

from pathlib import Path

import numpy as np
import pytest

from tools.bench.speech import turns as making
from tools.bench.speech.levels import RATE_HZ, Samples, has_room
from tools.bench.speech.recordings import Gap, Recording

GAP_AT = int(0.8 * RATE_HZ)


def spoken(seconds_of_quiet: float) -> Samples:
    """A voice of 1.6 s over a soft hiss, with that much of nothing else in the middle."""
    noise = np.random.default_rng(7).normal(0, 0.001, int((1.6 + seconds_of_quiet) * RATE_HZ))
    voice = 0.3 * np.sin(2 * np.pi * 200 * np.arange(len(noise)) / RATE_HZ)
    voice[GAP_AT : GAP_AT + int(seconds_of_quiet * RATE_HZ)] = 0
    return np.asarray(voice + noise, np.float32)


def test_a_voice_without_a_quiet_moment_has_no_room() -> None:
    assert has_room(spoken(0.15))
    assert not has_room(spoken(0.05))


def test_nobody_is_given_a_pause_that_sounds_like_a_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = {"roomy": 0.15, "breathless": 0.0}
    monkeypatch.setattr(Recording, "samples", lambda self, folder: spoken(quiet[self.name]))
    made = list(making.turns([recording(name) for name in quiet], Path()))
    assert [turn.recording.name for turn in made] == ["roomy", "roomy"]
    assert [len(turn.pauses) for turn in made] == [0, 1]


def recording(name: str) -> Recording:
    gap = Gap(GAP_AT, "inside", "one", natural=False)
    return Recording(name, "package", "file", 0, -1, "somebody", "tuning", "One two.", (gap,))
