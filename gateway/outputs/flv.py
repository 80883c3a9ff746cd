"""Pictures and sound as the messages that RTMP carries (Adobe's FLV specification, E.4): H.264 as it is, speech as AAC."""

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

from gateway.live.program import Picture, Sound
from gateway.outputs.aac import BIT_RATE, RATE_HZ, AacEncoder
from gateway.outputs.h264 import ParameterSets, parameter_sets, units, with_lengths

KEYFRAME_AVC, INTERFRAME_AVC = 0x17, 0x27
AAC = 0xAF
"""AAC; the rate, size and channels that follow in the same byte are always said to be 44 kHz, 16 bit, stereo."""
HEADER, CODED = 0, 1


class Kind(IntEnum):
    """A message's type, the same number in RTMP and in FLV files."""

    AUDIO = 8
    VIDEO = 9
    DATA = 18


@dataclass(frozen=True)
class Tag:
    """One message; `timestamp_ms` counts from the first picture."""

    kind: Kind
    timestamp_ms: int
    payload: bytes


class FlvWriter:
    """Makes the messages of one connection. What it is given begins with a keyframe; pictures are not reordered."""

    def __init__(self, rate_hz: int, fps: Fraction, width: int, height: int) -> None:
        """`rate_hz` is that of the session's clock and sound, the size is in pixels."""
        self._rate, self._fps, self._size = rate_hz, fps, (width, height)
        self._aac = AacEncoder(rate_hz)
        self._sets: ParameterSets | None = None
        self._origin: int | None = None
        self._next_sample = 0

    def metadata(self) -> dict[str, object]:
        """What a player is told before the first message (onMetaData)."""
        width, height = self._size
        return {
            "width": float(width),
            "height": float(height),
            "framerate": float(self._fps),
            "videocodecid": 7.0,
            "audiocodecid": 10.0,
            "audiosamplerate": float(RATE_HZ),
            "audiosamplesize": 16.0,
            "audiodatarate": BIT_RATE / 1000,
            "stereo": False,
            "encoder": "talkmesh",
        }

    def picture(self, picture: Picture) -> list[Tag]:
        """A picture; with decoder headers before it where they are new, after a change of the renderer too."""
        found, tags = units(picture.data), []
        now = self._begun(picture.start)
        sets = parameter_sets(found) if picture.keyframe else None
        if sets is not None and sets != self._sets:
            if self._sets is None:
                tags.append(Tag(Kind.AUDIO, now, bytes((AAC, HEADER)) + self._aac.configuration))
            self._sets = sets
            tags.append(Tag(Kind.VIDEO, now, video(KEYFRAME_AVC, HEADER, sets.configuration())))
        if self._sets is None:
            return []
        first = KEYFRAME_AVC if picture.keyframe else INTERFRAME_AVC
        return [*tags, Tag(Kind.VIDEO, now, video(first, CODED, with_lengths(found)))]

    def sound(self, sound: Sound) -> list[Tag]:
        """Sound, with silence in the place of what is missing before it."""
        self._begun(sound.start)
        missing = sound.start - self._next_sample
        if missing < 0:
            return []
        self._next_sample = sound.start + len(sound.data) // 2
        frames = self._aac.encode(bytes(2 * missing) + sound.data)
        return [Tag(Kind.AUDIO, frame.start * 1000 // RATE_HZ, bytes((AAC, CODED)) + frame.data) for frame in frames]

    def _begun(self, start: int) -> int:
        """Milliseconds from the beginning, which is now if nothing was before."""
        if self._origin is None:
            self._origin = self._next_sample = start
        return (start - self._origin) * 1000 // self._rate


def video(first: int, what: int, data: bytes) -> bytes:
    """A message of AVC; presentation is never later than decoding."""
    return bytes((first, what, 0, 0, 0)) + data
