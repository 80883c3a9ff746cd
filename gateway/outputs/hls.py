"""HTTP Live Streaming (RFC 8216) of live sessions, made only while somebody watches."""

import asyncio
import hashlib
import logging
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from gateway.live.program import Picture, Program
from gateway.outputs.beginning import from_keyframe
from gateway.outputs.segments import Initialization, Segment, Segmenter
from gateway.outputs.sessions import Sessions
from services.runtime.bell import Bell
from services.runtime.errors import NotFound, Unavailable

LISTED, HELD = 6, 10
"""Segments in the playlist, and in memory: players are still on their way to those that have just left it."""
IDLE_S = 30.0
FIRST_S = 8.0
NUMBERED_S = 0.5
TARGET_S = 2
"""What no segment is much longer than: keyframes come after 2 s by themselves."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Playlist:
    """A media playlist, and what tells it from others."""

    text: str
    tag: str


@dataclass
class HlsStream:
    """The segments of one session, shared by all who watch it."""

    program: Program
    bell: Bell = field(default_factory=Bell)
    ended: bool = False
    asked_at: float = 0.0
    """When it was last asked for, on the loop's clock."""
    _segments: deque[Segment] = field(default_factory=deque)
    _initializations: dict[int, bytes] = field(default_factory=dict)
    _sequence: int = 0
    """The number of the oldest segment held."""
    _discontinuities: int = 0

    async def run(self) -> None:
        """Make segments until the session ends or nobody asks any more."""
        loop, segmenter = asyncio.get_running_loop(), Segmenter(self.program)
        with self.program.watch(told=False) as viewer:
            async for item in from_keyframe(viewer, self.program.rate_hz):
                for made in segmenter.add(item):
                    self._add(made)
                if isinstance(item, Picture) and segmenter.keyframe_due(item):
                    viewer.want_keyframe()
                if loop.time() - self.asked_at > IDLE_S:
                    return
        for made in segmenter.end():
            self._add(made)
        self.ended = True
        self.bell.ring()

    async def playlist(self) -> Playlist:
        """The playlist, once it has a segment. Raises Unavailable if there is none for long."""
        self._asked()
        try:
            async with asyncio.timeout(FIRST_S):
                await self.bell.until(lambda: bool(self._segments) or self.ended)
        except TimeoutError:
            raise Unavailable("the session has no pictures yet", retry_after_s=2.0) from None
        text = "\n".join(self._lines()) + "\n"
        return Playlist(text, hashlib.sha256(text.encode()).hexdigest()[:16])

    def part(self, name: str) -> bytes:
        """A segment, or an initialization, by the name that the playlist has for it. Raises NotFound."""
        self._asked()
        for number, data in self._initializations.items():
            if name == initialization_name(number):
                return data
        for segment in self._segments:
            if name == segment_name(segment):
                return segment.data
        raise NotFound("segment", name)

    def _asked(self) -> None:
        self.asked_at = asyncio.get_running_loop().time()

    def _add(self, made: Initialization | Segment) -> None:
        if isinstance(made, Initialization):
            self._initializations[made.number] = made.data
            return
        if not self._segments:
            # Numbers must not begin again when a stream does: these grow faster than segments come.
            self._sequence = math.ceil(made.start / (NUMBERED_S * self.program.rate_hz))
        self._segments.append(made)
        while len(self._segments) > HELD:
            self._drop_oldest()
        self.bell.ring()

    def _drop_oldest(self) -> None:
        gone = self._segments.popleft()
        self._sequence += 1
        if self._segments[0].initialization != gone.initialization:
            self._discontinuities += 1
            del self._initializations[gone.initialization]

    def _lines(self) -> list[str]:
        unlisted = max(0, len(self._segments) - LISTED)
        listed = list(self._segments)[unlisted:]
        target = max([TARGET_S, *(round(segment.duration_s) for segment in listed)])
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:7",
            f"#EXT-X-TARGETDURATION:{target}",
            f"#EXT-X-MEDIA-SEQUENCE:{self._sequence + unlisted}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{self._discontinuities + self._changes(unlisted)}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
        ]
        before: int | None = None
        for segment in listed:
            if segment.initialization != before:
                lines += ["#EXT-X-DISCONTINUITY"] if before is not None else []
                lines.append(f'#EXT-X-MAP:URI="{initialization_name(segment.initialization)}"')
                before = segment.initialization
            lines += [f"#EXTINF:{segment.duration_s:.5f},", segment_name(segment)]
        return lines + (["#EXT-X-ENDLIST"] if self.ended else [])

    def _changes(self, count: int) -> int:
        """Discontinuities between the first `count` segments held and the one behind them."""
        numbers = [segment.initialization for segment in self._segments][: count + 1]
        return sum(before != now for before, now in pairwise(numbers))


def initialization_name(number: int) -> str:
    return f"init-{number}.mp4"


def segment_name(segment: Segment) -> str:
    """A name that no other segment of the session ever has."""
    return f"{segment.start}.m4s"


class HlsStreams:
    """The streams that are watched now. Made by `hls_streams`."""

    def __init__(self, sessions: Sessions, tasks: asyncio.TaskGroup) -> None:
        self._sessions = sessions
        self._group = tasks
        self._streams: dict[str, HlsStream] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def begun(self, session_id: str) -> HlsStream:
        """The stream of a session, made from now on if it was not. Raises NotFound."""
        if session_id not in self._streams:
            stream = self._streams[session_id] = HlsStream(self._sessions.get(session_id).program)
            stream.asked_at = asyncio.get_running_loop().time()
            task = self._group.create_task(self._run(session_id, stream))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return self._streams[session_id]

    def running(self, session_id: str) -> HlsStream:
        """The stream of a session that is being made. Raises NotFound."""
        if session_id not in self._streams:
            raise NotFound("stream", session_id)
        return self._streams[session_id]

    async def _run(self, session_id: str, stream: HlsStream) -> None:
        loop = asyncio.get_running_loop()
        try:
            await stream.run()
            # Players still fetch the end of a session that is over.
            while (left_s := stream.asked_at + IDLE_S - loop.time()) > 0:
                await asyncio.sleep(left_s)
        except Exception:
            log.exception("the HLS stream of session %s failed", session_id)
        finally:
            del self._streams[session_id]


@asynccontextmanager
async def hls_streams(sessions: Sessions) -> AsyncIterator[HlsStreams]:
    """All HLS streams of a gateway, which end on leaving."""
    async with asyncio.TaskGroup() as group:
        streams = HlsStreams(sessions, group)
        try:
            yield streams
        finally:
            for task in list(streams.tasks):
                task.cancel()
