"""The arithmetic of the benches."""

import struct

import pytest

from talkmesh import Outcome, Stage, TurnDone, Wav
from tools.bench.experimenting import curve
from tools.bench.figures import percentile, spread
from tools.bench.turn import TurnTimes, trailing_silence_ms, waterfall


def done(*stages: Stage) -> TurnDone:
    return TurnDone(Outcome.COMPLETED, "", "", stages, 0, 0, 0, 0, 0, 0, ())


def test_percentiles_are_interpolated() -> None:
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile([5], 95) == 5
    assert spread(range(101)) == {"p50": 50, "p95": 95}
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_trailing_silence_is_found() -> None:
    samples = [0] * 800 + [3000, -3000] * 400 + [100] * 320
    wav = Wav(16000, 1, False, struct.pack(f"<{len(samples)}h", *samples))
    assert trailing_silence_ms(wav) == pytest.approx(20)


def test_waterfall_tiles_the_interval() -> None:
    turns = [
        TurnTimes(0, 130, done(Stage("asr_final", 60, 10), Stage("first_token", 40, 5))),
        TurnTimes(0, 150, done(Stage("asr_final", 80, 10), Stage("first_token", 40, 5))),
    ]
    parts, unexplained_pct = waterfall(turns, [20, 20])
    assert parts["asr_final"] == 60
    assert parts["first_token"] == 35
    assert parts["mesh"] == 15
    assert sum(parts.values()) == pytest.approx(140)
    assert parts["unexplained"] == pytest.approx(10)
    assert unexplained_pct == pytest.approx(100 * 10 / 140)


def test_the_detection_curve_falls_with_the_rate_of_failures() -> None:
    rows = [{"rate": 0.02, "hold": 1_826, "guard": 4_462}, {"rate": 1.0, "hold": 7, "guard": 13}]
    drawn = curve.svg(rows)
    assert drawn.startswith("<svg") and drawn.count("<polyline") == 2
    assert curve.up(4_462) < curve.up(13), "more sessions stand higher"
    assert curve.across(0.02) < curve.across(1.0)
