"""A session's audio and pictures, put into one file in step."""

from typing import Protocol

from gateway.clock import Clock


class Writer(Protocol):
    """A file that sound and pictures go into: `Mp4Writer`. Each method returns the bytes that became ready."""

    def audio(self, data: bytes, start_sample: int) -> bytes: ...

    def video(self, data: bytes, start_sample: int, keyframe: bool) -> bytes: ...

    def close(self) -> bytes: ...


class Recording:
    """Holds audio back until its picture has come: what an interruption cuts away is never in the file."""

    def __init__(self, writer: Writer, clock: Clock, start: int = 0) -> None:
        """`start`: the first sample of the file."""
        self._writer = writer
        self._clock = clock
        self._held = bytearray()
        self._held_from = start

    def audio(self, start: int, data: bytes) -> None:
        """PCM_S16LE mono from sample `start` on; replaces what was held from there on, and gaps become silence."""
        offset = max(0, 2 * (start - self._held_from))
        del self._held[offset:]
        self._held.extend(bytes(offset - len(self._held)))
        self._held.extend(data)

    def picture(self, data: bytes, start: int, keyframe: bool) -> bytes:
        """An H.264 access unit at sample `start`; returns what is ready of the file."""
        end = self._clock.frame_start(self._clock.frames_before(start) + 1)
        return self._writer.video(data, start, keyframe) + self._release(end)

    def close(self) -> bytes:
        """The rest of the file."""
        return self._writer.close()

    def _release(self, until: int) -> bytes:
        """What was held before a sample; where nothing was, silence: both tracks must move on."""
        size = 2 * (until - self._held_from)
        if size <= 0:
            return b""
        ready = self._writer.audio(bytes(self._held[:size].ljust(size, b"\0")), self._held_from)
        del self._held[:size]
        self._held_from = until
        return ready
