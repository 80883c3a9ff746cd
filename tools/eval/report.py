"""Everything that is known about one clip."""

import math
from dataclasses import dataclass
from pathlib import Path

from tools.eval import clip, metrics, opening, sync
from tools.eval.syncnet import scores
from tools.eval.trace import Trace


@dataclass(frozen=True)
class Report:
    """None stands for what cannot be told from what was given."""

    mouth_corr: float | None
    """Pearson's r of the measured opening and the one that the weights ask for."""
    av_offset_ms: float | None
    """How much later the picture is than the sound, in the file."""
    closure_recall: float | None
    fps: float
    dropped: int
    duration_gap_ms: float
    """How much longer the sound is than the pictures."""
    sharpness: float | None
    """Variance of the Laplacian over the face, as a part of the portrait's."""
    lse_c: float | None
    lse_d: float | None
    video_late_ms: float | None
    audio_late_ms: float | None
    """Picture and sound against the trace: `av_offset_ms` is their difference."""
    blind_offset_ms: float | None
    """The picture against the loudness of the sound, which needs no trace and is rougher."""
    jitter_px: float
    pictures: int
    faceless: int
    """Pictures in which no face was found."""


def evaluate(path: Path, trace: Trace | None = None, pack: Path | None = None, syncnet: Path | None = None) -> Report:
    """Measures a clip; `pack` is the folder of its portrait, `syncnet` a checkpoint for LSE.

    Raises InvalidInput or NotFound for what is not what it should be.
    """
    seen = metrics.look(path)
    fps = metrics.frame_rate(seen.times)
    start, samples = clip.sound(path)
    heard = sync.loudness(start, samples)
    blind = sync.offset_ms(seen.mouth, heard) if heard else None
    still = metrics.still(pack, seen.size) if pack else None
    target = opening.intended(trace, pack) if trace and pack else None
    video, audio, recall = None, None, None
    if trace and target and still:
        video, audio = metrics.offset_ms(seen.mouth, heard, trace, target)
        late_s = audio / 1000 if audio is not None and abs(audio) > metrics.AUDIO_SLACK_MS else 0.0
        recall = metrics.closure_recall(
            seen.mouth, trace.phonemes, rest=still.mouth, frame_s=float(1 / fps), late_s=late_s
        )
    lse = scores(path, syncnet, seen.times) if syncnet else None
    corr = sync.correlation(seen.mouth, target) if target else None
    return Report(
        mouth_corr=None if corr is None else 0.0 if math.isnan(corr) else corr,
        av_offset_ms=video - audio if video is not None and audio is not None else None,
        closure_recall=recall,
        fps=float(fps),
        dropped=metrics.dropped(seen.times, fps, len(trace.times) if trace else 0),
        duration_gap_ms=1000 * (start + len(samples) / clip.SOUND_RATE_HZ - float(seen.times[-1] + 1 / fps)),
        sharpness=float(seen.sharpness.mean()) / still.sharpness if still else None,
        lse_c=lse.confidence if lse else None,
        lse_d=lse.distance if lse else None,
        video_late_ms=video,
        audio_late_ms=audio,
        blind_offset_ms=blind[0] if blind else None,
        jitter_px=metrics.jitter(seen.nose),
        pictures=len(seen.times),
        faceless=len(seen.times) - len(seen.mouth.times),
    )
