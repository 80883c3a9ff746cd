"""PCM chunks as they arrive on the wire → mono float samples, in order and checked."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from services.asr.engine import Audio, Samples
from services.runtime.errors import InvalidInput

LOWEST_RATE_HZ = 8_000
HIGHEST_RATE_HZ = 48_000
LAST_SAMPLE = 2**53
"""Far beyond any stream; keeps positions exact wherever they pass through a float."""


class Encoding(Enum):
    """PCM sample types, by their numpy names."""

    S16LE = "<i2"
    F32LE = "<f4"


@dataclass(frozen=True)
class Format:
    """How the samples of a stream are laid out. Raises InvalidInput naming the field of `config.format` that is wrong."""

    encoding: Encoding
    sample_rate_hz: int
    channels: int

    def __post_init__(self) -> None:
        if not LOWEST_RATE_HZ <= self.sample_rate_hz <= HIGHEST_RATE_HZ:
            raise InvalidInput(
                "config.format.sample_rate_hz", f"is {self.sample_rate_hz}", f"{LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}"
            )
        if self.channels not in (1, 2):
            raise InvalidInput("config.format.channels", f"is {self.channels}", "1 or 2")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return np.dtype(self.encoding.value).itemsize * self.channels

    def decode(self, data: bytes) -> Samples:
        """Mono samples of `data`: channels averaged, clipped to -1 to 1.

        Raises InvalidInput for a broken frame, NaN or infinity.
        """
        if len(data) % self.frame_bytes:
            raise InvalidInput(
                "audio.data",
                f"{len(data)} bytes",
                f"whole frames of {self.frame_bytes} bytes ({self.encoding.name}, {self.channels} channels)",
            )
        pcm = np.frombuffer(data, self.encoding.value).astype(np.float32)
        if self.encoding is Encoding.S16LE:
            pcm /= 32768
        elif not np.isfinite(pcm).all():
            raise InvalidInput("audio.data", "holds NaN or infinity", "finite samples")
        mono = pcm.reshape(-1, self.channels).mean(axis=1) if self.channels > 1 else pcm
        return np.clip(mono, -1, 1, out=mono)


class Intake:
    """Takes the chunks of one stream in order: the first sets the clock, each other starts where the last one ended."""

    def __init__(self, format: Format, max_chunk_ms: int) -> None:
        self._format = format
        self._max_chunk_ms = max_chunk_ms
        self._expected: int | None = None

    def take(self, start_sample: int, data: bytes) -> Audio:
        """Raises InvalidInput for a chunk that is too large, out of order or not of the format; it then took nothing."""
        expected = start_sample if self._expected is None else self._expected
        if start_sample != expected:
            raise InvalidInput("audio.start_sample", f"got {start_sample}", f"{expected}, where the last chunk ended")
        if not 0 <= start_sample <= LAST_SAMPLE:
            raise InvalidInput("audio.start_sample", f"got {start_sample}", f"0 to {LAST_SAMPLE}")
        most = self._format.sample_rate_hz * self._max_chunk_ms // 1000 * self._format.frame_bytes
        if len(data) > most:
            raise InvalidInput("audio.data", f"{len(data)} bytes", f"at most {most}, {self._max_chunk_ms} ms of audio")
        samples = self._format.decode(data)
        self._expected = start_sample + len(samples)
        return Audio(start_sample, samples)
