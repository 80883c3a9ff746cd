"""A fragmented MP4 (H.264 and AAC) that can be played while it is being written.

Pictures are muxed as they come, never encoded again; speech becomes mono AAC at 48 kHz. The AAC encoder's 1,024 samples of
priming are taken back by an edit list (hence `delay_moov`: the header is written with the first fragment, when both tracks
have begun), so that sound and picture meet to the sample in every player that reads edit lists.
"""

from fractions import Fraction
from typing import Any

import av
import numpy as np

from services.runtime.errors import InvalidInput

AUDIO_RATE_HZ = 48_000
AUDIO_BIT_RATE = 96_000
FRAGMENT_US = 500_000
# How far one track may run ahead of the other, which is what has to be held in memory.
MAX_LEAD_S = 300
OPTIONS = {
    "movflags": "empty_moov+delay_moov+default_base_moof+frag_keyframe",
    "frag_duration": str(FRAGMENT_US),
    "flush_packets": "1",
    "max_interleave_delta": "0",
}
SPS, PPS = 7, 8


class Sink:
    """What the muxer writes to; it cannot seek."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class Mp4Writer:
    """Writes one reply. Every method returns the bytes that became ready, to be appended to those before.

    Positions are samples of the session's clock at `sample_rate_hz`; frame k of the session starts at
    floor(k * sample_rate_hz / fps). The file begins at the frame in which `start_sample` lies, or, without it, the first
    thing written. Audio that does not follow its predecessor is preceded by silence, a missing picture leaves the one
    before it on the screen. About 0.5 s of both tracks make a fragment, a keyframe begins a new one.
    """

    def __init__(
        self, width: int, height: int, fps: Fraction, sample_rate_hz: int, *, start_sample: int | None = None
    ) -> None:
        """Picture size in pixels; raises InvalidInput for what cannot be a picture or a clock."""
        for field, value in (("width", width), ("height", height)):
            if value <= 0 or value % 2:
                raise InvalidInput(field, f"{value} pixels", "a positive even number")
        if fps <= 0:
            raise InvalidInput("fps", f"{fps} frames a second", "more than 0")
        if not 8_000 <= sample_rate_hz <= 48_000:
            raise InvalidInput("sample_rate_hz", f"{sample_rate_hz}", "8000 to 48000")
        self._size, self._fps, self._rate = (width, height), Fraction(fps), sample_rate_hz
        self._sink = Sink()
        self._container: Any = None
        self._origin: int | None = None
        # The frame and the sample behind the last ones, on the session's clock.
        self._next_frame = self._next_sample = 0
        # Sound that came before the first picture, and the samples given to the encoder.
        self._waiting: list[bytes] = []
        self._encoded = 0
        self._closed = False
        if start_sample is not None:
            self._begin(start_sample)

    def video(self, data: bytes, start_sample: int, keyframe: bool) -> bytes:
        """Adds one H.264 access unit (Annex B, no reordering; keyframes carry SPS and PPS).

        Raises InvalidInput when the unit is empty, does not start a frame, comes twice or too late, or when the first one
        is no keyframe with its parameter sets.
        """
        index = self._frame_at(start_sample)
        if not data:
            raise InvalidInput("data", "the access unit is empty")
        if self._frame_start(index) != start_sample:
            expected = f"floor(k * {self._rate} / {self._fps}) for a whole k"
            raise InvalidInput("start_sample", f"no frame starts at {start_sample}", expected)
        if self._container is None and not (keyframe and unit_types(data) >= {SPS, PPS}):
            raise InvalidInput("data", "the first picture cannot be decoded alone", "a keyframe with SPS and PPS")
        self._begin(start_sample)
        if index < self._next_frame:
            expected = f"{self._frame_start(self._next_frame)} or later"
            raise InvalidInput("start_sample", f"the picture at {start_sample} is out of order", expected)
        self._check_lead(start_sample - self._next_sample, "video")
        if self._container is None:
            self._open()
        self._mux_picture(data, index, keyframe)
        self._next_frame = index + 1
        waiting, self._waiting = self._waiting, []
        for pcm in waiting:
            self._encode(pcm)
        return self._sink.take()

    def audio(self, data: bytes, start_sample: int) -> bytes:
        """Adds mono PCM_S16LE. Raises InvalidInput when it overlaps what came before, or is half a sample long."""
        if len(data) % 2:
            raise InvalidInput("data", f"{len(data)} bytes", "two bytes a sample")
        self._begin(start_sample)
        gap = start_sample - self._next_sample
        if gap < 0:
            raise InvalidInput("start_sample", f"the audio at {start_sample} is out of order", f"{self._next_sample}")
        self._check_lead(start_sample + len(data) // 2 - self._frame_start(self._next_frame), "audio")
        self._add_silence(gap)
        self._add_pcm(data)
        return self._sink.take()

    def close(self) -> bytes:
        """Ends the file; silence fills up a sound that is shorter than the pictures. Without a picture there is no file."""
        if self._closed or self._container is None:
            self._closed = True
            return b""
        self._add_silence(self._frame_start(self._next_frame) - self._next_sample)
        self._closed = True
        self._mux(self._sound.encode(None))
        self._container.close()
        return self._sink.take()

    def _begin(self, start_sample: int) -> None:
        """The first sample written decides where the file begins; nothing may come before that."""
        if self._closed:
            raise InvalidInput("start_sample", f"{start_sample} comes after the end of the file")
        if self._origin is None:
            self._origin = self._next_frame = self._frame_at(start_sample)
            self._next_sample = self._frame_start(self._origin)
        if start_sample < (begin := self._frame_start(self._origin)):
            raise InvalidInput("start_sample", f"{start_sample} is before the file begins", f"{begin} or later")

    def _frame_start(self, index: int) -> int:
        return int(index * self._rate / self._fps // 1)

    def _frame_at(self, sample: int) -> int:
        """The last frame that starts at or before the sample."""
        return int(-(-(sample + 1) * self._fps // self._rate)) - 1

    def _check_lead(self, samples: int, track: str) -> None:
        if samples > MAX_LEAD_S * self._rate:
            raise InvalidInput("start_sample", f"the {track} is more than {MAX_LEAD_S} s ahead of the other track")

    def _open(self) -> None:
        """The muxer takes the decoder's configuration (avcC) from the first packet it gets."""
        self._container = av.open(self._sink, "w", format="mp4", options=OPTIONS)
        width, height = self._size
        tick = 1 / self._fps
        self._picture = self._container.add_mux_stream("h264", self._fps, width=width, height=height, time_base=tick)
        self._sound = self._container.add_stream("aac", AUDIO_RATE_HZ, layout="mono", bit_rate=AUDIO_BIT_RATE)

    def _mux_picture(self, data: bytes, index: int, keyframe: bool) -> None:
        packet = av.Packet(data)
        packet.stream, packet.time_base = self._picture, 1 / self._fps
        packet.pts = packet.dts = index - (self._origin or 0)
        packet.duration, packet.is_keyframe = 1, keyframe
        self._mux([packet])

    def _add_silence(self, samples: int) -> None:
        while samples > 0:
            now = min(samples, self._rate)
            self._add_pcm(bytes(2 * now))
            samples -= now

    def _add_pcm(self, data: bytes) -> None:
        if self._container is None:
            self._waiting.append(data)
        else:
            self._encode(data)
        self._next_sample += len(data) // 2

    def _encode(self, data: bytes) -> None:
        """The codec context resamples, and cuts into its own frames, what it is given without gaps."""
        if not data:
            return
        frame = av.AudioFrame.from_ndarray(np.frombuffer(data, "<i2")[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = self._encoded
        self._encoded += frame.samples
        self._mux(self._sound.encode(frame))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._container.mux_one(packet)


def unit_types(data: bytes) -> set[int]:
    """The types of the NAL units in an Annex B access unit."""
    return {part[0] & 0x1F for part in data.split(b"\x00\x00\x01")[1:] if part}
