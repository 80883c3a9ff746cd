"""The MP4: decoded again, what was put in is where it was put."""

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.mp4 import MAX_LEAD_S, Mp4Writer
from services.runtime.errors import InvalidInput

SIZE = 64
FPS = Fraction(25)


def encoded(count: int, flashes: set[int], fps: Fraction = FPS) -> list[tuple[bytes, bool]]:
    """Access units of black pictures, white where there is a flash."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width = encoder.height = SIZE
    encoder.pix_fmt, encoder.time_base, encoder.framerate, encoder.gop_size = "yuv420p", 1 / fps, fps, 30
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}
    units = []
    for index in range(count):
        picture = np.full((SIZE, SIZE, 3), 255 if index in flashes else 0, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = index
        units += [(bytes(packet), packet.is_keyframe) for packet in encoder.encode(frame)]
    return units


def clicks(samples: int, at: list[int]) -> NDArray[np.int16]:
    pcm = np.zeros(samples, np.int16)
    for sample in at:
        pcm[sample : sample + 60] = 16_000
    return pcm


def written(
    frames: int, marks: list[int], rate: int = 24_000, fps: Fraction = FPS, *, first: int = 0, audio_ahead: int = 0
) -> Iterator[bytes]:
    """A file with a flash and a click at each marked frame, beginning at frame `first` of the session's clock."""
    writer = Mp4Writer(SIZE, SIZE, fps, rate)
    starts = [int((first + index) * rate / fps) for index in range(frames + 1)]
    pcm = clicks(starts[-1] - starts[0], [starts[mark] - starts[0] for mark in marks])
    units = encoded(frames, set(marks), fps)
    for index in range(frames + audio_ahead):
        if index < frames:
            part = pcm[starts[index] - starts[0] : starts[index + 1] - starts[0]]
            yield writer.audio(part.tobytes(), starts[index])
        if index >= audio_ahead:
            unit, keyframe = units[index - audio_ahead]
            yield writer.video(unit, starts[index - audio_ahead], keyframe)
    yield writer.close()


def pictures(data: bytes) -> list[tuple[Fraction, float]]:
    """Time in seconds and mean brightness of every picture."""
    with av.open(io.BytesIO(data), "r") as file:
        frames = list(file.decode(video=0))
    return [(seconds(frame), float(frame.to_ndarray(format="gray").mean())) for frame in frames]


def seconds(frame: av.VideoFrame | av.AudioFrame) -> Fraction:
    assert frame.pts is not None
    assert frame.time_base is not None
    return frame.pts * frame.time_base


def sound(data: bytes) -> tuple[Fraction, NDArray[np.float32]]:
    """Time of the first sample, and the samples at 48 kHz, which must lie without gaps."""
    with av.open(io.BytesIO(data), "r") as file:
        frames = list(file.decode(audio=0))
    ends = [seconds(frame) + Fraction(frame.samples, 48_000) for frame in frames]
    assert [seconds(frame) for frame in frames[1:]] == ends[:-1]
    assert {frame.sample_rate for frame in frames} == {48_000}
    return seconds(frames[0]), np.concatenate([frame.to_ndarray()[0] for frame in frames])


def onsets(data: bytes) -> list[float]:
    """Where clicks begin, in seconds."""
    start, samples = sound(data)
    loud = np.flatnonzero(np.abs(samples) > 0.15)
    firsts = loud[np.diff(loud, prepend=-48_000) > 4_800]
    return [float(start) + sample / 48_000 for sample in firsts]


@pytest.mark.parametrize(
    ("rate", "fps", "first", "audio_ahead"),
    [
        (24_000, FPS, 0, 0),
        (24_000, FPS, 1_000, 40),
        (22_050, FPS, 3, 5),
        (16_000, Fraction(30), 7, 0),
        (48_000, Fraction(30_000, 1_001), 11, 3),
    ],
)
def test_a_click_and_a_flash_meet(rate: int, fps: Fraction, first: int, audio_ahead: int) -> None:
    marks = [0, 26, 57]
    data = b"".join(written(80, marks, rate, fps, first=first, audio_ahead=audio_ahead))
    flashes = [float(time) for time, brightness in pictures(data) if brightness > 128]
    assert flashes == pytest.approx([mark / float(fps) for mark in marks], abs=1e-4)
    # Far below the 10 ms that anybody could notice: priming and resampling leave no offset.
    assert onsets(data) == pytest.approx(flashes, abs=0.001)


def test_frame_rate_is_exact_and_durations_agree() -> None:
    data = b"".join(written(77, []))
    times = [time for time, _ in pictures(data)]
    assert times == [Fraction(index, 25) for index in range(77)]
    start, samples = sound(data)
    assert start == 0
    assert abs(len(samples) / 48_000 - 77 / 25) < 1 / 25
    with av.open(io.BytesIO(data), "r") as file:
        assert file.streams.video[0].average_rate == 25
        stamps: dict[int, list[int]] = {0: [], 1: []}
        for packet in file.demux():
            if packet.dts is not None:
                stamps[packet.stream_index].append(packet.dts)
    assert all(track == sorted(set(track)) for track in stamps.values())
    assert [len(stamps[0]), len(stamps[1])] == [77, 146]


def test_plays_while_it_grows() -> None:
    whole = b"".join(written(100, [30]))
    grown = b""
    shown = [0]
    for piece in written(100, [30]):
        grown += piece
        if piece:
            shown.append(len(pictures(grown)))
            assert pictures(grown) == pictures(whole)[: shown[-1]]
    assert grown == whole
    assert shown[-1] == 100
    assert max(np.diff(shown)) <= 0.6 * 25


def test_decoder_configuration_is_that_of_the_first_keyframe() -> None:
    unit = encoded(1, set())[0][0]
    sps, pps = (part for part in unit.split(b"\x00\x00\x01") if part and part[0] & 0x1F in (7, 8))
    with av.open(io.BytesIO(b"".join(written(3, []))), "r") as file:
        configuration = file.streams.video[0].codec_context.extradata
        size = (file.streams.video[0].width, file.streams.video[0].height)
    assert size == (SIZE, SIZE)
    assert configuration is not None
    assert configuration[:4] == bytes([1, *sps[1:4]])
    assert sps.rstrip(b"\x00") in configuration
    assert pps.rstrip(b"\x00") in configuration


def test_gaps_in_the_audio_are_silence_and_missing_pictures_are_gaps() -> None:
    units = encoded(50, set())
    writer = Mp4Writer(SIZE, SIZE, FPS, 24_000)
    data = b""
    for index in [*range(20), *range(23, 50)]:
        data += writer.video(units[index][0], index * 960, units[index][1])
    data += writer.audio(clicks(2_400, [0]).tobytes(), 24_000)
    data += writer.audio(clicks(2_400, [0]).tobytes(), 36_000)
    data += writer.close()
    times = [time for time, _ in pictures(data)]
    assert times == [Fraction(index, 25) for index in [*range(20), *range(23, 50)]]
    assert onsets(data) == pytest.approx([1.0, 1.5], abs=0.001)
    assert len(sound(data)[1]) / 48_000 == pytest.approx(2.0, abs=0.04)


def test_the_file_may_begin_before_the_first_unit() -> None:
    units = encoded(5, {0})
    writer = Mp4Writer(SIZE, SIZE, FPS, 24_000, start_sample=9_600)
    data = writer.audio(clicks(9_600, [0]).tobytes(), 10_560 + 480)
    data += b"".join(writer.video(unit, 10_560 + index * 960, key) for index, (unit, key) in enumerate(units))
    data += writer.close()
    assert pictures(data)[0][0] == Fraction(1, 25)
    assert onsets(data) == pytest.approx([0.06], abs=0.001)


def test_bad_order_and_bad_units_are_refused_and_nothing_is_lost() -> None:
    units = encoded(4, set())
    writer = Mp4Writer(SIZE, SIZE, FPS, 24_000)
    refused: list[tuple[str, bytes, int]] = [
        ("data", units[1][0], 960),
        ("data", b"", 960),
        ("start_sample", units[0][0], 961),
    ]
    for field, data, start in refused:
        with pytest.raises(InvalidInput, match=field):
            writer.video(data, start, True)
    out = writer.video(units[0][0], 960, True)
    for start in (0, 960):
        with pytest.raises(InvalidInput, match="start_sample"):
            writer.video(units[1][0], start, False)
    out += writer.audio(bytes(1_920), 960)
    for data, start in [(bytes(1_920), 0), (bytes(1_920), 1_919), (bytes(3), 1_920)]:
        with pytest.raises(InvalidInput):
            writer.audio(data, start)
    with pytest.raises(InvalidInput, match="ahead"):
        writer.audio(bytes(2), MAX_LEAD_S * 24_000 + 1_920)
    with pytest.raises(InvalidInput, match="ahead"):
        writer.video(units[1][0], (MAX_LEAD_S + 1) * 24_000, False)
    out += writer.video(units[1][0], 1_920, False) + writer.close()
    assert [time for time, _ in pictures(out)] == [0, Fraction(1, 25)]
    with pytest.raises(InvalidInput, match="end of the file"):
        writer.audio(bytes(2), 2_880)
    assert writer.close() == b""


def test_without_pictures_there_is_no_file() -> None:
    writer = Mp4Writer(SIZE, SIZE, FPS, 24_000)
    assert writer.audio(bytes(960), 0) == b""
    assert writer.close() == b""


@pytest.mark.parametrize(
    ("field", "width", "fps", "rate"),
    [("width", 0, 25, 24_000), ("width", 63, 25, 24_000), ("fps", 64, 0, 24_000), ("sample_rate_hz", 64, 25, 4_000)],
)
def test_what_is_no_picture_or_clock_is_refused(field: str, width: int, fps: int, rate: int) -> None:
    with pytest.raises(InvalidInput, match=field):
        Mp4Writer(width, 64, Fraction(fps), rate)
