"""The evaluation, tried on clips of which it is known what is wrong with them.

A portrait's lips are drawn apart by as much as is wanted: what the tool measures is then compared with what was drawn.
"""

import json
import subprocess
import sys
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.mp4 import Mp4Writer
from services.runtime.errors import InvalidInput, NotFound
from tools.eval import metrics, opening, sync
from tools.eval.__main__ import KEYS, PORTRAITS
from tools.eval.landmarks import EYE_CORNERS, FaceTracker, Picture
from tools.eval.report import Report, evaluate
from tools.eval.trace import Curve, Phoneme, Trace, parse

RATE, FRAME, SIZE, SECONDS = 24_000, 960, 256, 6
PACK = PORTRAITS / "mei"
# Sounds with their length in ms: words without a regular beat, between silences.
WORDS = "_350 p60 ɑ140 t50 ə80 m70 oʊ150 _120 s90 ɪ70 b60 ɛ90 k55 ɪ60 _240 n60 ʌ120 v70 æ110 ʃ95 u100 m65 a160 z80 _180"
SPEECH = [(word.rstrip("0123456789").strip("_"), word.lstrip(word.rstrip("0123456789"))) for word in WORDS.split()]


class Mouth:
    """Draws a portrait whose lower lip and chin are moved down, with a hole between the lips."""

    def __init__(self) -> None:
        points = np.load(PACK / "landmarks.npy") * SIZE / 768
        self.eyes = float(np.hypot(*(points[EYE_CORNERS[0], :2] - points[EYE_CORNERS[1], :2])))
        self.picture = closed_portrait()
        self.y, self.x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
        middle, half = points[13, 0], (points[291, 0] - points[61, 0]) / 2
        self.line = (points[13, 1] + points[14, 1]) / 2
        self.lips = np.sqrt(np.clip(1 - ((self.x - middle) / (half * 0.9)) ** 2, 0, 1))
        cheeks = 0.8 * np.exp(-1.5 * np.clip(np.abs(self.x - middle) / half - 0.6, 0, None) ** 2)
        fading = np.clip(1 - (self.y - self.line) / (points[152, 1] * 1.12 - self.line), 0, 1)
        self.pull = np.maximum(self.lips, cheeks) * fading

    def draw(self, gap: float) -> Picture:
        """`gap` in distances between the eyes."""
        pixels = gap * self.eyes
        below = self.y > self.line
        source = np.where(below, np.maximum(self.y - pixels * self.pull, self.line), self.y)
        moved = cv2.remap(self.picture, self.x, source.astype(np.float32), cv2.INTER_LINEAR)
        hole = below & (self.y <= self.line + pixels * self.lips) & (pixels * self.lips > 0.4)
        alpha = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 0.6)[..., None]
        return np.asarray(moved * (1 - alpha) + np.array([20, 15, 40]) * alpha).astype(np.uint8)


def closed_portrait() -> Picture:
    front = cv2.imread(str(PACK / "neutral.png"), cv2.IMREAD_UNCHANGED)
    back = cv2.imread(str(PACK / "background.png"))
    assert front is not None
    assert back is not None
    alpha = front[..., 3:] / 255
    whole = (front[..., :3] * alpha + back * (1 - alpha)).round().astype(np.uint8)
    return np.asarray(cv2.resize(whole, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def spans() -> list[Phoneme]:
    """The words, said again until the clip is full."""
    found, at = [Phoneme("", 0.0, 0.5)], 0.5
    while at < SECONDS - 0.5:
        for name, length in SPEECH:
            found.append(Phoneme(name, at, at + int(length) / 1000))
            at += int(length) / 1000
    return [
        *(span for span in found if span.end <= SECONDS),
        Phoneme("", max(s.end for s in found if s.end <= SECONDS), SECONDS),
    ]


def spoken_pcm() -> NDArray[np.int16]:
    """A buzz for vowels, noise for the rest, each as loud as such a sound is."""
    rng = np.random.default_rng(1)
    time = np.arange(SECONDS * RATE) / RATE
    buzz = sum((np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 15)), np.zeros(len(time)))
    noise, pcm = rng.standard_normal(len(time)), np.zeros(len(time))
    for span in spans():
        loudness = opening.SOUNDS[span.name[0]][1] if span.name else 0.0
        at = slice(int(span.start * RATE), int(span.end * RATE))
        pcm[at] = (buzz if loudness > 0.5 else noise)[at] * 10 ** (3 * (loudness - 1))
    return np.clip(pcm * 4_000, -32_000, 32_000).astype(np.int16)


@pytest.fixture(scope="module")
def raw_trace() -> dict[str, object]:
    curve = opening.spoken(tuple(spans()))
    assert curve is not None
    jaw = 0.55 * np.interp(np.arange(SECONDS * 25) / 25, curve.times, curve.values)
    for span in spans():
        if span.name in ("p", "b", "m"):
            jaw[round(span.start * 25) : round(span.end * 25) + 1] = 0
    return {
        "sample_rate_hz": RATE,
        "fps": [25, 1],
        "start_sample": 48_000,
        "blendshape_names": ["mouthSmileLeft", "jawOpen"],
        "phonemes": [
            {
                "phoneme": span.name,
                "start_sample": 48_000 + round(span.start * RATE),
                "end_sample": 48_000 + round(span.end * RATE),
            }
            for span in spans()
        ],
        "frames": [
            {"start_sample": 48_000 + index * FRAME, "weights": [0.0, float(weight)]}
            for index, weight in enumerate(jaw)
        ],
        "portrait": "mei",
        "size": SIZE,
    }


@pytest.fixture(scope="module")
def trace(raw_trace: dict[str, object]) -> Trace:
    return parse(raw_trace)


@pytest.fixture(scope="module")
def gaps(trace: Trace) -> NDArray[np.float64]:
    return np.asarray(opening.intended(trace, PACK).values, np.float64)


def encoded(gaps: NDArray[np.float64]) -> list[tuple[bytes, bool]]:
    mouth = Mouth()
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width = encoder.height = SIZE
    encoder.pix_fmt, encoder.time_base, encoder.framerate, encoder.gop_size = (
        "yuv420p",
        Fraction(1, 25),
        Fraction(25),
        50,
    )
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23"}
    units = []
    for index, gap in enumerate(gaps):
        frame = av.VideoFrame.from_ndarray(mouth.draw(float(gap)), format="bgr24")
        frame.pts = index
        units += [(bytes(packet), packet.is_keyframe) for packet in encoder.encode(frame)]
    return units


def write(
    path: Path,
    units: list[tuple[bytes, bool]],
    *,
    sound_late_ms: int = 0,
    pictures_late: int = 0,
    dropped: Collection[int] = (),
) -> Path:
    """A clip whose sound (in ms) or pictures (in frames, also before 0) come late."""
    pcm = np.roll(spoken_pcm(), sound_late_ms * RATE // 1000)
    writer = Mp4Writer(SIZE, SIZE, Fraction(25), RATE, start_sample=0)
    data = b""
    for index, (unit, keyframe) in enumerate(units):
        if index not in dropped:
            data += writer.video(unit, (index + max(0, pictures_late)) * FRAME, keyframe)
        start = (index + max(0, -pictures_late)) * FRAME
        data += writer.audio(pcm[index * FRAME : (index + 1) * FRAME].tobytes(), start)
    path.write_bytes(data + writer.close())
    return path


@pytest.fixture(scope="module")
def units(gaps: NDArray[np.float64]) -> list[tuple[bytes, bool]]:
    return encoded(gaps)


@pytest.fixture(scope="module")
def good_clip(units: list[tuple[bytes, bool]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clip") / "good.mp4", units)


@pytest.fixture(scope="module")
def good(good_clip: Path, trace: Trace) -> Report:
    return evaluate(good_clip, trace, PACK)


def test_a_good_clip_is_found_good(good: Report) -> None:
    assert good.mouth_corr is not None
    assert good.mouth_corr > 0.9
    assert good.av_offset_ms == pytest.approx(0, abs=20)
    assert good.blind_offset_ms == pytest.approx(0, abs=40)
    assert good.closure_recall == 1
    assert (good.fps, good.dropped, good.faceless) == (25, 0, 0)
    assert abs(good.duration_gap_ms) < 40
    assert good.sharpness == pytest.approx(1, abs=0.2)
    assert good.lse_c is None


@pytest.mark.parametrize("frames", [-5, -3, -2, 2, 3, 5])
def test_late_and_early_pictures_are_told(
    frames: int, units: list[tuple[bytes, bool]], trace: Trace, tmp_path: Path
) -> None:
    report = evaluate(write(tmp_path / "moved.mp4", units, pictures_late=frames), trace, PACK)
    assert report.av_offset_ms == pytest.approx(40 * frames, abs=20)


@pytest.mark.parametrize("late_ms", [-200, 70])
def test_a_moved_sound_is_told(late_ms: int, units: list[tuple[bytes, bool]], trace: Trace, tmp_path: Path) -> None:
    report = evaluate(write(tmp_path / "moved.mp4", units, sound_late_ms=late_ms), trace, PACK)
    assert report.av_offset_ms == pytest.approx(-late_ms, abs=20)
    assert report.mouth_corr is not None
    assert report.mouth_corr > 0.9


def test_reference_energy_locates_the_sound(
    raw_trace: dict[str, object], units: list[tuple[bytes, bool]], tmp_path: Path
) -> None:
    pcm, hop = spoken_pcm().astype(float), 240
    rms = np.sqrt((pcm[: len(pcm) // hop * hop].reshape(-1, hop) ** 2).mean(axis=1))
    reference = {"start_sample": 48_000, "hop_samples": hop, "rms": rms.tolist()}
    report = evaluate(
        write(tmp_path / "moved.mp4", units, sound_late_ms=70), parse(raw_trace | {"audio_energy": reference}), PACK
    )
    assert report.audio_late_ms == pytest.approx(70, abs=5)


def test_a_mouth_that_never_closes(gaps: NDArray[np.float64], trace: Trace, tmp_path: Path) -> None:
    assert evaluate(write(tmp_path / "open.mp4", encoded(gaps + 0.08)), trace, PACK).closure_recall == 0


def test_a_mouth_that_says_something_else(gaps: NDArray[np.float64], trace: Trace, tmp_path: Path) -> None:
    mixed = np.concatenate([gaps[start : start + 25] for start in (75, 125, 25, 100, 0, 50)])
    report = evaluate(write(tmp_path / "mixed.mp4", encoded(mixed)), trace, PACK)
    assert report.mouth_corr is not None
    assert report.mouth_corr < 0.5


def test_missing_pictures_are_counted(units: list[tuple[bytes, bool]], trace: Trace, tmp_path: Path) -> None:
    report = evaluate(write(tmp_path / "dropped.mp4", units, dropped={30, 31, 77, 149}), trace, PACK)
    assert (report.dropped, report.fps) == (4, 25)


def test_without_a_trace_only_the_rest_is_told(good_clip: Path) -> None:
    report = evaluate(good_clip)
    assert (report.mouth_corr, report.av_offset_ms, report.closure_recall, report.sharpness) == (None,) * 4
    assert report.blind_offset_ms == pytest.approx(0, abs=40)
    assert report.fps == 25


def test_landmarks_lie_where_the_portrait_has_them() -> None:
    tracker = FaceTracker()
    points = [tracker.follow(closed_portrait()) for _ in range(4)][-1]
    assert points is not None
    truth = np.load(PACK / "landmarks.npy") * SIZE / 768
    assert np.abs(points[:, :2] - truth[:, :2]).mean() < 0.02 * SIZE


def test_the_measured_opening_grows_with_the_drawn_one() -> None:
    mouth = Mouth()
    found = []
    for gap in (0.0, 0.05, 0.1, 0.16):
        tracker = FaceTracker()
        points = [tracker.follow(mouth.draw(gap)) for _ in range(4)][-1]
        assert points is not None
        found.append(opening.measured(points))
    assert found == sorted(found)
    assert found[0] + metrics.CLOSED_WITHIN < found[1]


def test_no_face_is_an_error(tmp_path: Path) -> None:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width = encoder.height = SIZE
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {"tune": "zerolatency"}
    writer = Mp4Writer(SIZE, SIZE, Fraction(25), RATE)
    data = b""
    for index in range(3):
        frame = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), 90, np.uint8), format="bgr24")
        frame.pts = index
        for packet in encoder.encode(frame):
            data += writer.video(bytes(packet), index * FRAME, packet.is_keyframe)
    path = tmp_path / "grey.mp4"
    path.write_bytes(data + writer.close())
    with pytest.raises(InvalidInput, match="a face is seen in 0 of 3"):
        evaluate(path)
    path.write_bytes(b"no video")
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        evaluate(path)


def test_unknown_portrait_is_an_error(good_clip: Path, trace: Trace) -> None:
    with pytest.raises(NotFound, match="mei"):
        evaluate(good_clip, trace, PORTRAITS / "nobody")


def test_command_line_ends_with_json(
    good_clip: Path, raw_trace: dict[str, object], good: Report, tmp_path: Path
) -> None:
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(raw_trace))
    command = [sys.executable, "-m", "tools.eval", str(good_clip), "--trace", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert tuple(told) == KEYS
    assert told["mouth_corr"] == pytest.approx(good.mouth_corr, abs=1e-3)
    assert (told["lse_c"], told["lse_d"]) == ("n/a", "n/a")
    failed = subprocess.run([*command, "--portrait", "nobody"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "nobody" in failed.stderr


def test_offset_needs_something_in_common() -> None:
    times = np.arange(0, 3, 0.01)
    wave = Curve(times, np.sin(7 * times) + np.sin(11 * times))
    later = Curve(times + 0.137, wave.values)
    found = sync.offset_ms(later, wave)
    assert found is not None
    assert found[0] == pytest.approx(137, abs=2)
    assert sync.offset_ms(Curve(times, np.ones(len(times))), wave) is None
    assert sync.offset_ms(Curve(times + 5, wave.values), wave) is None


def test_closure_recall_counts_each_bilabial() -> None:
    mouth = Curve(np.arange(25) / 25, np.array([0.1] * 5 + [0.02] * 2 + [0.1] * 18))
    sounds = (Phoneme("p", 0.2, 0.26), Phoneme("a", 0.26, 0.5), Phoneme("m", 0.5, 0.6), Phoneme("b", 5.0, 5.1))
    assert metrics.closure_recall(mouth, sounds, rest=0.02, frame_s=0.04, late_s=0) == 0.5
    assert metrics.closure_recall(mouth, sounds, rest=0.02, frame_s=0.04, late_s=-0.3) == 1
    assert metrics.closure_recall(mouth, sounds[1:2], rest=0.02, frame_s=0.04, late_s=0) is None
