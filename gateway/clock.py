"""A session's clock: where its video frames lie among its samples."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Clock:
    """Samples at `rate_hz`, pictures at `fps`. Frame k starts at sample floor(k · rate / fps)."""

    rate_hz: int
    fps: Fraction

    def frame_start(self, frame: int) -> int:
        """The sample at which a frame starts."""
        return int(frame * self.rate_hz / self.fps)

    def frames_before(self, sample: int) -> int:
        """How many frames start before a sample."""
        frame = int(sample * self.fps / self.rate_hz)
        while self.frame_start(frame) < sample:
            frame += 1
        return frame

    def aligned(self, sample: int) -> int:
        """The start of the first frame that starts at or after a sample."""
        return self.frame_start(self.frames_before(sample))

    def samples(self, ms: float) -> int:
        """A duration in samples."""
        return round(ms * self.rate_hz / 1000)
