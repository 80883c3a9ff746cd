"""Two things that aiortc's sender does in a way of its own: sender reports and requests for keyframes.

aiortc 1.16 has no public place for either, so methods of single senders are replaced here, and nowhere else.
"""

from collections.abc import Callable
from typing import Any

from aiortc import RTCRtpSender, clock
from aiortc.rtp import AnyRtcpPacket, RtcpSrPacket

from gateway.webrtc.clock import MediaClock

WRAP = 1 << 32


class Reports:
    """Has a sender's reports tell the session's clock instead of the moment at which the last packet was sent."""

    def __init__(self, sender: RTCRtpSender, media: MediaClock, rate_hz: int) -> None:
        """`rate_hz` is that of the RTP timestamps."""
        self._media = media
        self._rate_hz = rate_hz
        self._next_frame = sender._next_encoded_frame
        self._send = sender._send_rtcp
        self._sent: int | None = None
        """Timestamp of the newest frame, before the sender's random offset."""
        self._idle = False
        """Whether all of it has been sent."""
        self._origin: int | None = None
        sender._next_encoded_frame = self.next_frame  # type: ignore[method-assign]
        sender._send_rtcp = self.send  # type: ignore[method-assign]

    async def next_frame(self, codec: Any) -> Any:
        """In place of `_next_encoded_frame`: asked for when everything before has been sent."""
        self._idle = True
        frame = await self._next_frame(codec)
        self._idle = False
        if frame is not None:
            self._sent = frame.timestamp
        return frame

    async def send(self, packets: list[AnyRtcpPacket]) -> None:
        """In place of `_send_rtcp`. Before there is media, a report would say nothing that is true: it is not sent."""
        for packet in packets:
            if isinstance(packet, RtcpSrPacket) and not self._correct(packet):
                return
        await self._send(packets)

    def _correct(self, report: RtcpSrPacket) -> bool:
        """Say where the session is at the report's wall time, if that is known."""
        said = report.sender_info
        if self._origin is None and self._idle and self._sent is not None and said.packet_count:
            self._origin = said.rtp_timestamp - self._sent
        if self._origin is None or not self._media.running:
            return False
        at_s = clock.datetime_from_ntp(said.ntp_timestamp).timestamp()
        said.rtp_timestamp = (self._origin + self._media.at(at_s, self._rate_hz)) % WRAP
        return True


def on_picture_loss(sender: RTCRtpSender, wanted: Callable[[], None]) -> None:
    """Call `wanted` when the receiver asks for a keyframe (PLI or FIR): ready-made packets have no encoder to be told."""
    sender._send_keyframe = wanted  # type: ignore[method-assign]
