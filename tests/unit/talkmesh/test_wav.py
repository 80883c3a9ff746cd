"""WAV files as people have them, and what they do to them."""

import struct
from pathlib import Path

import pytest

from talkmesh.errors import WavError
from talkmesh.wav import Wav, parse_wav, read_wav


def wav(data: bytes, kind: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16, extra: bytes = b"") -> bytes:
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", kind, channels, rate, rate * block, block, bits) + extra
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_sixteen_bit_mono_is_read_as_it_is() -> None:
    data = struct.pack("<4h", 1, -2, 3, -4)
    assert parse_wav(wav(data), "a") == Wav(16000, 1, False, data)


def test_stereo_keeps_its_channels() -> None:
    found = parse_wav(wav(bytes(16), channels=2, rate=48000), "a")
    assert (found.channels, found.sample_rate_hz, found.samples, found.frame_bytes) == (2, 48000, 4, 4)


def test_float_samples_are_kept() -> None:
    found = parse_wav(wav(struct.pack("<2f", 0.5, -0.5), kind=3, bits=32), "a")
    assert found.is_float
    assert found.samples == 2


@pytest.mark.parametrize("bits", [24, 32])
def test_wide_integers_are_cut_to_their_upper_half(bits: int) -> None:
    values = [1000, -1000, 32767, -32768]
    wide = b"".join((value << (bits - 16)).to_bytes(bits // 8, "little", signed=True) for value in values)
    assert parse_wav(wav(wide, bits=bits), "a").data == struct.pack("<4h", *values)


def test_extensible_header_is_understood() -> None:
    extra = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + bytes(14)
    assert parse_wav(wav(bytes(8), kind=0xFFFE, extra=extra), "a").samples == 4


def test_unknown_blocks_are_passed_over() -> None:
    content = wav(bytes(8))
    listed = content[:12] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + content[12:]
    assert parse_wav(listed, "a").samples == 4


def test_chunks_tile_the_samples() -> None:
    found = Wav(16000, 1, False, bytes(2 * 1000))
    chunks = list(found.chunks(20))
    assert [start for start, _ in chunks] == [0, 320, 640, 960]
    assert b"".join(data for _, data in chunks) == found.data


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"ID3 this is an mp3 really", "not a WAV"),
        (b"RIFF\0\0\0\0WAVE", "no format block"),
        (wav(bytes(100))[:-10], "truncated, 10 bytes of its data block are missing"),
        (wav(bytes(100))[:44], "truncated"),
        (wav(b""), "holds no samples"),
        (wav(bytes(12), channels=6), "6 channels"),
        (wav(bytes(8), rate=4000), "4000 Hz"),
        (wav(bytes(8), rate=96000), "96000 Hz"),
        (wav(bytes(8), bits=8), "format 1 with 8 bits"),
        (wav(bytes(8), kind=6, bits=8), "format 6"),
    ],
)
def test_what_is_wrong_is_named(content: bytes, problem: str) -> None:
    with pytest.raises(WavError, match=problem) as caught:
        parse_wav(content, "question.wav")
    assert "question.wav" in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WavError, match="No such file"):
        read_wav(tmp_path / "nothing.wav")
