import numpy as np
import pytest

from services.asr.pcm import Encoding, Format, Intake
from services.runtime.errors import InvalidInput

MONO = Format(Encoding.S16LE, 16_000, 1)


def field(error: pytest.ExceptionInfo[InvalidInput]) -> str:
    return error.value.field


@pytest.mark.parametrize("rate", [0, 7_999, 48_001, -1])
def test_rate_out_of_range_is_named(rate: int) -> None:
    with pytest.raises(InvalidInput, match=str(rate)) as error:
        Format(Encoding.S16LE, rate, 1)
    assert field(error) == "config.format.sample_rate_hz"


@pytest.mark.parametrize("channels", [0, 3])
def test_channels_are_one_or_two(channels: int) -> None:
    with pytest.raises(InvalidInput) as error:
        Format(Encoding.S16LE, 16_000, channels)
    assert field(error) == "config.format.channels"


def test_integers_span_minus_one_to_one() -> None:
    data = np.array([-32768, 0, 16384], "<i2").tobytes()
    assert MONO.decode(data).tolist() == [-1, 0, 0.5]


def test_stereo_is_averaged() -> None:
    data = np.array([[0.5, -0.25], [1, 1]], "<f4").tobytes()
    assert Format(Encoding.F32LE, 48_000, 2).decode(data).tolist() == [0.125, 1]


def test_floats_beyond_full_scale_are_clipped() -> None:
    data = np.array([3e38, -7], "<f4").tobytes()
    assert Format(Encoding.F32LE, 48_000, 1).decode(data).tolist() == [1, -1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_floats_must_be_finite(bad: float) -> None:
    with pytest.raises(InvalidInput, match="NaN or infinity") as error:
        Format(Encoding.F32LE, 16_000, 1).decode(np.array([0, bad], "<f4").tobytes())
    assert field(error) == "audio.data"


def test_a_broken_frame_is_refused() -> None:
    with pytest.raises(InvalidInput, match="6 bytes; expected whole frames of 4 bytes"):
        Format(Encoding.S16LE, 16_000, 2).decode(bytes(6))


def test_chunks_follow_each_other_from_wherever_the_first_starts() -> None:
    intake = Intake(MONO, 1_000)
    taken = [intake.take(start, bytes(640)) for start in (5_000, 5_320, 5_640)]
    assert [(chunk.start_sample, len(chunk.samples)) for chunk in taken] == [(5_000, 320), (5_320, 320), (5_640, 320)]


def test_a_gap_tells_what_was_got_and_expected_and_takes_nothing() -> None:
    intake = Intake(MONO, 1_000)
    intake.take(0, bytes(640))
    with pytest.raises(InvalidInput, match="got 321; expected 320") as error:
        intake.take(321, bytes(640))
    assert field(error) == "audio.start_sample"
    assert intake.take(320, bytes(2)).start_sample == 320


@pytest.mark.parametrize("start", [-1, 2**60])
def test_positions_stay_in_range(start: int) -> None:
    with pytest.raises(InvalidInput, match=r"audio\.start_sample"):
        Intake(MONO, 1_000).take(start, bytes(2))


def test_the_largest_chunk_is_taken_and_a_larger_one_is_not() -> None:
    assert len(Intake(MONO, 1_000).take(0, bytes(32_000)).samples) == 16_000
    with pytest.raises(InvalidInput, match="at most 32000, 1000 ms of audio"):
        Intake(MONO, 1_000).take(0, bytes(32_002))
