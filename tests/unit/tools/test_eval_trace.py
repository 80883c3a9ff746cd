"""Traces that are not what they should be are refused by the name of what is wrong."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from services.runtime.errors import InvalidInput
from tools.eval.trace import parse, read

GOOD: dict[str, Any] = {
    "sample_rate_hz": 24_000,
    "fps": [25, 1],
    "blendshape_names": ["jawOpen", "mouthClose"],
    "phonemes": [
        {"phoneme": "", "start_sample": 960, "end_sample": 1_200},
        {"phoneme": "m", "start_sample": 1_200, "end_sample": 2_400},
    ],
    "frames": [{"start_sample": 960, "weights": [0, 0.5]}, {"start_sample": 1_920, "weights": [1, 0]}],
}


def test_positions_become_seconds_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(GOOD | {"audio_energy": {"start_sample": 960, "hop_samples": 240, "rms": [1, 2]}}))
    trace = read(path)
    assert trace.fps == Fraction(25)
    assert trace.times.tolist() == [0, 0.04]
    assert trace.weights.tolist() == [[0, 0.5], [1, 0]]
    assert [(phoneme.name, phoneme.start, phoneme.end) for phoneme in trace.phonemes] == [
        ("", 0, 0.01),
        ("m", 0.01, 0.06),
    ]
    assert trace.energy is not None
    assert trace.energy.times.tolist() == [0.005, 0.015]
    assert parse(GOOD | {"start_sample": 0}).times.tolist() == [0.04, 0.08]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("sample_rate_hz", {"sample_rate_hz": 0}),
        ("sample_rate_hz", {"sample_rate_hz": "24000"}),
        ("fps", {"fps": [25]}),
        ("fps", {"fps": [25, 0]}),
        ("fps", {"fps": 25}),
        ("frames", {"frames": []}),
        ("frames", {"frames": GOOD["frames"][::-1]}),
        (r"frames\[0\].weights", {"frames": [{"start_sample": 0, "weights": [1]}]}),
        (r"frames\[0\].weights", {"frames": [{"start_sample": 0}]}),
        (r"frames\[0\].start_sample", {"frames": [{"weights": [0, 0]}]}),
        ("frames", {"frames": [{"start_sample": 0, "weights": [0, "x"]}]}),
        (r"phonemes\[1\].start_sample", {"phonemes": GOOD["phonemes"][::-1]}),
        (r"phonemes\[0\].phoneme", {"phonemes": [{"phoneme": 1, "start_sample": 0, "end_sample": 1}]}),
        ("phonemes", {"phonemes": None}),
        ("audio_energy.hop_samples", {"audio_energy": {"start_sample": 0, "rms": [1]}}),
        ("audio_energy", {"audio_energy": {"start_sample": 0, "hop_samples": 240, "rms": []}}),
    ],
)
def test_what_is_wrong_is_named(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=field):
        parse(GOOD | change)


def test_files_that_are_no_traces(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read(tmp_path / "none.json")
    for text in ("{", "[]"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InvalidInput, match="trace"):
            read(tmp_path / "bad.json")
