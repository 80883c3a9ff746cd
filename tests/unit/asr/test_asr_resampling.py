import numpy as np
import pytest

from services.asr.engine import Samples
from services.asr.pcm import Encoding, Format
from services.asr.resampling import RATE_HZ, Clock, Resampler

RATES = [8_000, 16_000, 22_050, 44_100, 48_000]


def resampled(audio: Samples, rate: int, chunk: int) -> Samples:
    resampler = Resampler(rate)
    return np.concatenate([resampler.push(audio[at : at + chunk]) for at in range(0, len(audio), chunk)])


@pytest.mark.parametrize("rate", RATES)
def test_a_click_comes_out_where_the_clock_says(rate: int) -> None:
    at = rate + 1_470
    audio = np.zeros(2 * rate, np.float32)
    audio[at] = 1
    out = resampled(audio, rate, rate // 50)
    energy = out**2
    centre = float((energy * np.arange(len(out))).sum() / energy.sum())
    assert centre == pytest.approx(at * RATE_HZ / rate, abs=0.1)
    assert abs(Clock(0, rate).to_input(round(centre)) - at) <= rate / RATE_HZ


@pytest.mark.parametrize("rate", RATES)
def test_the_cut_into_chunks_makes_no_difference(rate: int) -> None:
    audio = np.sin(np.arange(rate) * 0.05).astype(np.float32)
    whole, cut = resampled(audio, rate, rate), resampled(audio, rate, 37)
    shared = min(len(whole), len(cut))
    assert shared >= RATE_HZ - 64
    np.testing.assert_allclose(whole[:shared], cut[:shared], atol=1e-5)


def test_stereo_at_48_khz_keeps_time_and_pitch() -> None:
    seconds = np.arange(48_000) / 48_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    stereo = np.stack([tone, tone], axis=1).astype("<f4").tobytes()
    out = resampled(Format(Encoding.F32LE, 48_000, 2).decode(stereo), 48_000, 960)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(out)) / RATE_HZ)
    np.testing.assert_allclose(out[200:], expected[200:], atol=1e-3)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("start", [0, 123_457, 2**50])
def test_positions_come_back_from_the_other_clock(rate: int, start: int) -> None:
    clock = Clock(start, rate)
    assert clock.to_input(0) == start
    for seconds in (1, 59, 86_400):
        assert clock.to_input(seconds * RATE_HZ) == start + seconds * rate
        assert clock.from_input(start + seconds * rate) == seconds * RATE_HZ
    for position in (1, 511, 16_001):
        assert abs(clock.from_input(clock.to_input(position)) - position) <= max(1, RATE_HZ // rate)


def test_an_empty_chunk_is_nothing() -> None:
    assert len(Resampler(48_000).push(np.empty(0, np.float32))) == 0
