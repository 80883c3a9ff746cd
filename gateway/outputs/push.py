"""One push: a live session on its way to an RTMP server, for as long as both are wanted."""

import asyncio
import logging
import ssl
import traceback
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.live.program import Picture, Program, Viewer
from gateway.outputs.beginning import from_keyframe
from gateway.outputs.flv import FlvWriter
from gateway.outputs.push_url import PushUrl
from gateway.outputs.rtmp import Publisher, PushLost, publishing
from gateway.outputs.sessions import Session
from services.runtime.errors import DomainError

FIRST_BACKOFF_S, MOST_BACKOFF_S = 0.5, 10.0
STABLE_AFTER_S = 10.0
"""A connection that held so long was a good one: the next try comes soon again."""
LAG_MS = 1000.0
KEYFRAME_EVERY_S = 2.0
"""What servers want, for those who come to watch: asked for when the renderer does not by itself."""
LONGEST_ERROR = 200
ENDING_S = 2.0
log = logging.getLogger(__name__)


class PushState(Enum):
    """Where a push stands."""

    CONNECTING = auto()
    LIVE = auto()
    RETRYING = auto()
    STOPPED = auto()
    FAILED = auto()

    @property
    def over(self) -> bool:
        return self in (PushState.STOPPED, PushState.FAILED)


@dataclass(eq=False)
class Push:
    """Sends a session to a server, and connects again and again when that goes away, until the session ends.

    The session never waits for the server: what that takes too late is left out, up to the next keyframe.
    """

    id: str
    url: PushUrl
    tls: ssl.SSLContext | None = None
    state: PushState = PushState.CONNECTING
    connections: int = 0
    """How often it has gone live."""
    sent_bytes: int = 0
    dropped_pictures: int = 0
    dropped_sound_ms: float = 0.0
    last_error: str = ""
    """Why it is not live, or was not the last time; without secrets."""
    _backoff_s: float = field(default=FIRST_BACKOFF_S, init=False)

    @property
    def reconnects(self) -> int:
        """How often it has gone live again."""
        return max(0, self.connections - 1)

    async def run(self, session: Session) -> None:
        """Push until the session ends, or until cancelled."""
        pushing = asyncio.create_task(self._keep_pushing(session.program))
        try:
            await session.closed()
            self._stop("the session has ended")
        except DomainError as error:
            self._enter(PushState.FAILED, f"the session has failed: {error}")
        except asyncio.CancelledError:
            self._stop("")
            raise
        finally:
            # The last of a session that has ended is still on its way.
            if not session.program.ended:
                pushing.cancel()
            await asyncio.wait([pushing], timeout=ENDING_S)
            pushing.cancel()
            await asyncio.wait([pushing])

    async def _keep_pushing(self, program: Program) -> None:
        loop = asyncio.get_running_loop()
        while not program.ended:
            began = loop.time()
            try:
                await self._push_once(program)
            except PushLost as error:
                self._retry(str(error), loop.time() - began)
                await asyncio.sleep(self._backoff_s)
                self._backoff_s = min(2 * self._backoff_s, MOST_BACKOFF_S)
            except Exception:
                # A defect of ours must not be the end of a broadcast.
                log.error("push %s to %s failed: %s", self.id, self.url, self.url.redacted(traceback.format_exc()))
                self._retry("an error inside the gateway", loop.time() - began)
                await asyncio.sleep(MOST_BACKOFF_S)

    def _retry(self, error: str, lasted_s: float) -> None:
        if self.state is PushState.LIVE and lasted_s > STABLE_AFTER_S:
            self._backoff_s = FIRST_BACKOFF_S
        if not self.state.over:
            self._enter(PushState.RETRYING, error)

    async def _push_once(self, program: Program) -> None:
        """One connection, until it breaks or the session ends."""
        async with publishing(self.url, self.tls) as publisher:
            with program.watch(told=False, lag_ms=LAG_MS) as viewer:
                writer = FlvWriter(program.rate_hz, program.fps, program.width, program.height)
                await publisher.describe(writer.metadata())
                counted = Counted(self, publisher, viewer)
                keyframe_at = 0
                async for item in from_keyframe(viewer, program.rate_hz):
                    if isinstance(item, Picture):
                        keyframe_at = item.start if item.keyframe else keyframe_at
                        if item.start - keyframe_at >= KEYFRAME_EVERY_S * program.rate_hz:
                            viewer.want_keyframe()
                    tags = writer.picture(item) if isinstance(item, Picture) else writer.sound(item)
                    counted.begin()
                    await publisher.send(tags)
                    counted.add()

    def sent(self, count: int) -> None:
        """So many bytes of the stream are on their way."""
        self.sent_bytes += count
        if self.state in (PushState.CONNECTING, PushState.RETRYING):
            self.connections += 1
            self._enter(PushState.LIVE, self.last_error)

    def _stop(self, why: str) -> None:
        self._enter(PushState.STOPPED, why or self.last_error)

    def _enter(self, state: PushState, error: str) -> None:
        """Be in a state; what happens again and again is logged once."""
        error = self.url.redacted(error)[:LONGEST_ERROR]
        if (state, error) != (self.state, self.last_error):
            lost = state in (PushState.RETRYING, PushState.FAILED)
            told = f": {error}" if lost else ""
            log.log(
                logging.WARNING if lost else logging.INFO, "push %s to %s: %s%s", self.id, self.url, state.name, told
            )
        self.state, self.last_error = state, error


class Counted:
    """Adds what one connection does to its push."""

    def __init__(self, push: Push, publisher: Publisher, viewer: Viewer) -> None:
        self._push, self._publisher, self._viewer = push, publisher, viewer
        self._bytes, self._pictures, self._sound_ms = 0, 0, 0.0
        self._begun = False

    def begin(self) -> None:
        """What was left out before the first picture is nobody's loss."""
        if not self._begun:
            self._begun = True
            self._pictures, self._sound_ms = self._viewer.dropped_pictures, self._viewer.dropped_sound_ms

    def add(self) -> None:
        push, publisher, viewer = self._push, self._publisher, self._viewer
        push.sent(publisher.sent_bytes - self._bytes)
        push.dropped_pictures += viewer.dropped_pictures - self._pictures
        push.dropped_sound_ms += viewer.dropped_sound_ms - self._sound_ms
        self._bytes, self._pictures = publisher.sent_bytes, viewer.dropped_pictures
        self._sound_ms = viewer.dropped_sound_ms
