"""WAV files, read as they are sent. Python's own `wave` reads no float samples and says little about what is wrong."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from talkmesh.errors import WavError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
MAX_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Wav:
    """Samples of a WAV file: interleaved PCM_S16LE, or 32 bit float if `is_float`."""

    sample_rate_hz: int
    channels: int
    is_float: bool
    data: bytes

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * (4 if self.is_float else 2)

    @property
    def samples(self) -> int:
        """Samples a channel."""
        return len(self.data) // self.frame_bytes

    def chunks(self, ms: float = 20) -> Iterator[tuple[int, bytes]]:
        """The samples in pieces of `ms`, each with the position of its first sample."""
        step = max(1, round(self.sample_rate_hz * ms / 1000))
        for start in range(0, self.samples, step):
            yield start, self.data[start * self.frame_bytes : (start + step) * self.frame_bytes]


def read_wav(path: Path) -> Wav:
    """Read a WAV of 16, 24 or 32 bit integers or 32 bit floats, mono or stereo. Raises WavError saying what is wrong."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WavError(f"{path.name}: larger than {MAX_BYTES // 1024 // 1024} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise WavError(f"{path}: {error.strerror}") from error
    return parse_wav(content, path.name)


def parse_wav(content: bytes, name: str) -> Wav:
    """The WAV in `content`; `name` is only for errors."""
    if not content:
        raise WavError(f"{name}: the file is empty")
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise WavError(f"{name}: not a WAV file (no RIFF/WAVE header)")
    found = dict(blocks(content, name))
    if b"fmt " not in found or len(found[b"fmt "]) < 16:
        raise WavError(f"{name}: has no format block")
    if b"data" not in found:
        raise WavError(f"{name}: truncated, or has no data block")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", found[b"fmt "][:16])
    if kind == EXTENSIBLE and len(found[b"fmt "]) >= 26:
        (kind,) = struct.unpack("<H", found[b"fmt "][24:26])
    if channels not in (1, 2):
        raise WavError(f"{name}: has {channels} channels; expected 1 or 2")
    if not 8000 <= rate <= 48000:
        raise WavError(f"{name}: sample rate is {rate} Hz; expected 8000 to 48000")
    data = sixteen_bit_or_float(found[b"data"], kind, bits, name)
    wav = Wav(rate, channels, kind == FLOAT, data)
    if not wav.samples:
        raise WavError(f"{name}: holds no samples")
    return Wav(rate, channels, kind == FLOAT, data[: wav.samples * wav.frame_bytes])


def blocks(content: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a RIFF file. Raises WavError at one that is longer than the file."""
    at = 12
    while at + 8 <= len(content):
        tag, size = struct.unpack("<4sI", content[at : at + 8])
        if at + 8 + size > len(content):
            missing = at + 8 + size - len(content)
            label = tag.decode("ascii", "replace").strip()
            raise WavError(f"{name}: truncated, {missing} bytes of its {label} block are missing")
        yield tag, content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def sixteen_bit_or_float(data: bytes, kind: int, bits: int, name: str) -> bytes:
    """Integer samples cut to their upper 16 bits; floats as they are."""
    if kind == FLOAT and bits == 32:
        return data
    if kind == PCM and bits in (16, 24, 32):
        width = bits // 8
        if width == 2:
            return data
        whole = len(data) // width
        upper = bytearray(2 * whole)
        upper[0::2] = data[width - 2 : width * whole : width]
        upper[1::2] = data[width - 1 : width * whole : width]
        return bytes(upper)
    raise WavError(f"{name}: format {kind} with {bits} bits; expected 16, 24 or 32 bit integer or 32 bit float samples")
