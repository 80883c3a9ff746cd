"""The boxes of a fragmented MP4 (ISO/IEC 14496-12): what makes a segment of it."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEADER = 8
VIDEO_TRACK = 1


@dataclass(frozen=True)
class Header:
    """What a player needs before the first fragment (ftyp and moov)."""

    data: bytes
    video_timescale: int


@dataclass(frozen=True)
class Fragment:
    """A moof with its mdat; `video_time` is when its first picture is decoded, in the video track's time scale."""

    data: bytes
    video_time: int | None


class BoxReader:
    """Cuts what a muxer writes into its header and fragments."""

    def __init__(self) -> None:
        self._data = b""
        self._held = b""

    def take(self, data: bytes) -> Iterator[Header | Fragment]:
        """What is complete with this."""
        self._data += data
        while len(self._data) >= HEADER:
            size, kind = sized(self._data, 0)
            if len(self._data) < size:
                return
            box, self._data = self._data[:size], self._data[size:]
            yield from self._completed(kind, box)

    def _completed(self, kind: bytes, box: bytes) -> Iterator[Header | Fragment]:
        match kind:
            case b"ftyp" | b"moof":
                self._held = box
            case b"moov":
                yield Header(self._held + box, timescale(box))
            case b"mdat":
                yield Fragment(self._held + box, video_time(self._held))


def sized(data: bytes, at: int) -> tuple[int, bytes]:
    """A box's size, header included, and kind. Ours are never so long that they need the long form."""
    size, kind = struct.unpack_from(">I4s", data, at)
    return max(HEADER, size), kind


def inside(box: bytes, *path: bytes) -> Iterator[bytes]:
    """All boxes at a path inside of a box."""
    at = HEADER
    while path and at + HEADER <= len(box):
        size, kind = sized(box, at)
        if kind == path[0]:
            part = box[at : at + size]
            yield from inside(part, *path[1:]) if path[1:] else (part,)
        at += size


def timescale(moov: bytes) -> int:
    """Units a second of the first track, which is the video's."""
    header = next(inside(moov, b"trak", b"mdia", b"mdhd"))
    value: int = struct.unpack_from(">I", header, HEADER + (20 if header[HEADER] == 1 else 12))[0]
    return value


def video_time(moof: bytes) -> int | None:
    """Decode time of the first picture; None without pictures."""
    for track in inside(moof, b"traf"):
        header = next(inside(track, b"tfhd"))
        if struct.unpack_from(">I", header, HEADER + 4)[0] != VIDEO_TRACK:
            continue
        for time in inside(track, b"tfdt"):
            value: int = struct.unpack_from(">Q" if time[HEADER] == 1 else ">I", time, HEADER + 4)[0]
            return value
    return None
