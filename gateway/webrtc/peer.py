"""One WebRTC connection, from its offer to its end."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from aiortc import RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver, RTCSessionDescription

from gateway.webrtc import messages
from gateway.webrtc.clock import MediaClock
from gateway.webrtc.events import Events
from gateway.webrtc.face import VIDEO_HZ, DecodedFaceTrack, FaceTrack
from gateway.webrtc.faults import Fault
from gateway.webrtc.ice import announced, configuration
from gateway.webrtc.microphone import Microphone
from gateway.webrtc.offer import FIELD, Offer, candidates_of
from gateway.webrtc.senders import Reports, on_picture_loss
from gateway.webrtc.settings import WebRtcSettings
from gateway.webrtc.surface import Talker
from gateway.webrtc.voice import OPUS_HZ, VoiceTrack
from services.runtime.errors import DomainError, InvalidInput, Refused

WATCH_S = 0.5
CLOSE_S = 5.0
LAST_WORDS_S = 0.1
MOST_TRICKLED = 200
log = logging.getLogger(__name__)


class Peer:
    """A connection to a session. Made by `connected`."""

    answer: str
    """SDP."""

    def __init__(
        self, id_: str, session: Talker, offer: Offer, settings: WebRtcSettings, voice: str, talks: bool
    ) -> None:
        """`talks`: it may speak and command; otherwise it only watches."""
        self.id = id_
        self.session = session
        self.clock = MediaClock(session.program.rate_hz)
        self.events = Events(session, self.clock, voice, commands=talks)
        self.talks = talks
        listens = talks and offer.speaks and session.input_rate_hz > 0
        self.microphone = Microphone(session.input_rate_hz, session.hear, self.events.troubled) if listens else None
        self._offer = offer
        self._settings = settings
        self._gone = asyncio.Event()
        self._trickled = 0
        self._connection = RTCPeerConnection(configuration(settings.ice_servers))
        self._connection.on("datachannel", self.events.opened)
        self._connection.on("connectionstatechange", self._changed)

    def leave(self) -> None:
        """End the connection."""
        self._gone.set()

    def give_way(self) -> None:
        """Another peer has taken up the session: two microphones are not one."""
        self.events.send(messages.error(Fault("ABORTED", "the session was taken up by another connection")))
        self.leave()

    async def trickle(self, fragment: str) -> None:
        """Add candidates. Raises InvalidInput, and Refused for too many."""
        candidates = candidates_of(fragment, self._offer)
        self._trickled += len(candidates)
        if self._trickled > MOST_TRICKLED:
            raise Refused(f"more than {MOST_TRICKLED} candidates")
        for candidate in candidates:
            try:
                await self._connection.addIceCandidate(candidate)
            except ValueError as error:
                raise InvalidInput("candidate", str(error)) from error

    async def ended(self) -> None:
        """Serve the peer until it is gone or the session is over. Raises the session's error, if that has one."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.events.tick()), group.create_task(self.events.obey())]
            tasks += [group.create_task(self._watched()), group.create_task(self.events.tell())]
            if self.microphone:
                tasks += [group.create_task(self.microphone.keep_time()), group.create_task(self.microphone.pass_on())]
            try:
                await self._first_of_the_ends()
            finally:
                for task in tasks:
                    task.cancel()

    async def _first_of_the_ends(self) -> None:
        closed = asyncio.create_task(self.session.closed())
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait((closed, gone), return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                await self._told_of_the_end(closed)
        finally:
            for task in (closed, gone):
                task.cancel()
            await asyncio.gather(closed, gone, return_exceptions=True)

    async def _told_of_the_end(self, closed: asyncio.Task[None]) -> None:
        try:
            await closed
        except DomainError as error:
            self.events.troubled(error)
            await asyncio.sleep(LAST_WORDS_S)

    def _changed(self) -> None:
        """The connection is in another state."""
        if self._connection.connectionState in ("failed", "closed"):
            self._gone.set()

    async def _watched(self) -> None:
        """Say that a peer is gone that never came, or from which nothing comes any more."""
        began = heard_at = time.monotonic()
        received = 0
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            if self._connection.connectionState != "connected":
                if now - began > self._settings.connect_s:
                    log.info("peer %s did not connect", self.id)
                    self._gone.set()
                heard_at = now
                continue
            count = await self._packets_received()
            if count != received:
                received, heard_at = count, now
            elif now - heard_at > self._settings.gone_s:
                log.info("peer %s is silent", self.id)
                self._gone.set()

    async def _packets_received(self) -> int:
        report = await self._connection.getSenders()[0].getStats()
        return sum(entry.packetsReceived for entry in report.values() if entry.type == "transport")

    async def negotiate(self, watching: ExitStack) -> None:
        """Make the answer. Raises InvalidInput for an offer that aiortc does not take after all."""
        voice = VoiceTrack(self.session.program, self.clock, watching)
        direction = "sendrecv" if self.microphone else "sendonly"
        transceiver = self._connection.addTransceiver(voice, direction=direction)
        transceiver.setCodecPreferences(preferred(transceiver, "opus"))
        Reports(transceiver.sender, self.clock, OPUS_HZ)
        if self.microphone:
            self.microphone.listen_to(transceiver.receiver)
        if self._offer.video:
            self._add_face(watching)
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(self._offer.sdp, "offer"))
            await self._connection.setLocalDescription()
        except (ValueError, KeyError, AttributeError, AssertionError) as error:
            raise InvalidInput(FIELD, f"cannot be answered: {str(error)[:200] or type(error).__name__}") from error
        self.answer = announced(self._connection.localDescription.sdp, self._settings.host)

    def _add_face(self, watching: ExitStack) -> None:
        """Video goes one way; a camera is not received."""
        ready_made = self._offer.video == "H264"
        face = (FaceTrack if ready_made else DecodedFaceTrack)(self.session.program, self.clock, watching)
        transceiver = self._connection.addTransceiver(face, direction="sendonly")
        # Only before the offer is set: afterwards it has no effect.
        transceiver.setCodecPreferences(preferred(transceiver, self._offer.video))
        Reports(transceiver.sender, self.clock, VIDEO_HZ)
        if ready_made:
            on_picture_loss(transceiver.sender, face.want_keyframe)

    async def close(self) -> None:
        """Close the connection, whatever state it is in."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._connection.close()


def preferred(transceiver: RTCRtpTransceiver, name: str) -> list:  # type: ignore[type-arg]
    """One codec, and retransmission."""
    wanted = (name.lower(), "rtx")
    return [codec for codec in RTCRtpSender.getCapabilities(transceiver.kind).codecs if codec.name.lower() in wanted]


@asynccontextmanager
async def connected(
    id_: str, session: Talker, offer: Offer, settings: WebRtcSettings, voice: str, talks: bool
) -> AsyncIterator[Peer]:
    """A peer whose answer is made; the connection comes about when the client has it. Raises InvalidInput."""
    with ExitStack() as watching:
        peer = Peer(id_, session, offer, settings, voice, talks)
        try:
            await peer.negotiate(watching)
            yield peer
        finally:
            await peer.close()
