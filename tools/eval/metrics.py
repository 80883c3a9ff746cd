"""What is measured on a clip, and how."""

import itertools
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from services.runtime.errors import InvalidInput, NotFound
from tools.eval import clip, opening, sync
from tools.eval.landmarks import FaceTracker, Picture, Points
from tools.eval.trace import Curve, Floats, Phoneme, Trace

NOSE = (1, 4, 5, 195, 197)
# Above the gap that is measured on the portrait's closed lips, in distances between the eyes.
CLOSED_WITHIN = 0.03
# A sound that lies this far from where the trace has it may be the estimate's error.
AUDIO_SLACK_MS = 25.0


@dataclass(frozen=True)
class Look:
    """What the pictures of a clip show."""

    times: list[Fraction]
    """Of all pictures, in seconds."""
    mouth: Curve
    """The measured opening, for the pictures that show a face."""
    nose: Floats
    """Places of five points of the nose in those pictures, in pixels, shape [pictures, 5, 2]."""
    sharpness: Floats
    """Variance of the Laplacian inside the face's box, for those pictures."""
    size: tuple[int, int]
    """Width and height."""


@dataclass(frozen=True)
class Still:
    """What is measured on the portrait itself, at the size of the clip."""

    mouth: float
    sharpness: float


def look(path: Path) -> Look:
    """Follows the face through the clip. Raises InvalidInput if there is none."""
    tracker = FaceTracker()
    times: list[Fraction] = []
    seen: list[tuple[float, float, Floats, float]] = []
    size = (0, 0)
    for time, picture in clip.pictures(path):
        times.append(time)
        size = (picture.shape[1], picture.shape[0])
        if (points := tracker.follow(picture)) is not None:
            nose = points[NOSE, :2].astype(np.float64)
            seen.append((float(time), opening.measured(points), nose, sharpness(picture, points)))
    if len(seen) < 2:
        raise InvalidInput("clip", f"a face is seen in {len(seen)} of {len(times)} pictures", "a clip of a face")
    at, mouth, noses, sharp = zip(*seen, strict=True)
    return Look(times, Curve(np.array(at), np.array(mouth)), np.array(noses), np.array(sharp), size)


def still(pack: Path, size: tuple[int, int]) -> Still:
    """The portrait with its lips closed, before its background."""
    front = cv2.imread(str(pack / "neutral.png"), cv2.IMREAD_UNCHANGED)
    back = cv2.imread(str(pack / "background.png"), cv2.IMREAD_COLOR)
    if front is None or back is None:
        raise NotFound("portrait", pack.name, opening.known(pack.parent))
    alpha = front[..., 3:].astype(np.float32) / 255 if front.shape[2] == 4 else np.float32(1)
    whole = (front[..., :3] * alpha + back * (1 - alpha)).round().astype(np.uint8)
    picture = cv2.resize(whole, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    tracker, points = FaceTracker(), None
    # The region settles as it follows its own points.
    for _ in range(4):
        points = tracker.follow(picture)
    if points is None:
        raise InvalidInput("portrait", f"no face is found in {pack.name}")
    return Still(opening.measured(points), sharpness(picture, points))


def sharpness(picture: Picture, points: Points) -> float:
    height, width = picture.shape[:2]
    low = np.clip(points[:, :2].min(axis=0), 0, (width - 2, height - 2)).astype(int)
    high = np.clip(points[:, :2].max(axis=0), low + 2, (width, height)).astype(int)
    face = cv2.cvtColor(picture[low[1] : high[1], low[0] : high[0]], cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(face, cv2.CV_64F).var())


def frame_rate(times: list[Fraction]) -> Fraction:
    """By the commonest distance between two pictures, which missing ones do not change."""
    steps = Counter(after - before for before, after in itertools.pairwise(times))
    step = steps.most_common(1)[0][0] if steps else Fraction(0)
    if step <= 0:
        raise InvalidInput("clip", "its pictures have no increasing times")
    return 1 / step


def dropped(times: list[Fraction], fps: Fraction, expected: int) -> int:
    """Places of the grid that have no picture, and pictures missing at the end of the `expected` number."""
    places = round((times[-1] - times[0]) * fps) + 1
    return max(places, expected) - len(times)


def offset_ms(mouth: Curve, heard: Curve | None, trace: Trace, target: Curve) -> tuple[float | None, float | None]:
    """How late the picture is, and how late the sound, against the trace.

    The mouth is compared with what the phonemes say, so that an animation which is early or late is found as well. A
    trace without phonemes leaves the mouth's target.
    """
    seen = sync.offset_ms(mouth, opening.spoken(trace.phonemes) or target)
    reference = opening.spoken(trace.phonemes, loudness=True)
    if trace.energy is not None:
        reference = Curve(trace.energy.times, sync.level(trace.energy.values))
    sounds = sync.offset_ms(heard, reference) if heard is not None and reference is not None else None
    return seen[0] if seen else None, sounds[0] if sounds else None


def closure_recall(
    mouth: Curve, phonemes: tuple[Phoneme, ...], *, rest: float, frame_s: float, late_s: float
) -> float | None:
    """The part of all P, B and M inside the clip at which the lips are seen to meet; None if there is none.

    `rest` is the measured gap of closed lips, `late_s` how much later than in the trace the sound is in the file.
    """
    closed = []
    for phoneme in phonemes:
        start, end = phoneme.start + late_s, phoneme.end + late_s
        if phoneme.name[:1] not in opening.BILABIALS or start < mouth.times[0] or end > mouth.times[-1] + frame_s:
            continue
        # A frame is seen until the next one comes; a sound shorter than a frame has the one nearest to it.
        shown = (mouth.times > start - frame_s / 2) & (mouth.times < end + frame_s / 2)
        shown[np.abs(mouth.times - (start + end) / 2).argmin()] = True
        closed.append(bool(mouth.values[shown].min() <= rest + CLOSED_WITHIN))
    return float(np.mean(closed)) if closed else None


def jitter(nose: Floats) -> float:
    """Root mean square of the nose's second difference, in pixels a frame squared."""
    if len(nose) < 3:
        return 0.0
    bends = np.diff(nose.mean(axis=1), n=2, axis=0)
    return float(np.sqrt((bends**2).sum(axis=1).mean()))
