"""SDP offers and trickled candidates, checked before anything is opened for them."""

from dataclasses import dataclass

from aiortc import RTCIceCandidate
from aiortc.codecs import CODECS
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import MediaDescription, SessionDescription, candidate_from_sdp

from services.runtime.errors import InvalidInput

MOST_BYTES = 64 * 1024
MOST_CANDIDATES = 50
FIELD = "sdp"
LOCAL_NAME = ".local"
"""What browsers put in place of private addresses. They reach the gateway, so it need not look for them."""


@dataclass(frozen=True)
class Offer:
    """What a peer wants, and can."""

    sdp: str
    speaks: bool
    """Whether it will send audio."""
    video: str
    """"H264", "VP8", or "" without video."""
    mid: str
    """The media section whose transport all share."""
    ufrag: str


def offer_of(text: str) -> Offer:
    """Check an SDP offer. Raises InvalidInput that says what is missing."""
    kept = "\r\n".join(line for line in text.splitlines() if line.strip() and not _left_out(line)) + "\r\n"
    media = _media(kept)
    audio = [part for part in media if part.kind == "audio"]
    video = [part for part in media if part.kind == "video"]
    if len(audio) != 1 or len(video) > 1:
        found = f"{len(audio)} audio and {len(video)} video sections"
        raise InvalidInput(FIELD, found, "one of audio, and none or one of video")
    if "opus" not in _common("audio", audio[0]):
        raise InvalidInput(FIELD, "the audio section offers no Opus", "opus/48000/2")
    first = media[0]
    return Offer(
        sdp=kept,
        speaks=audio[0].direction in ("sendrecv", "sendonly", None),
        video=_video_codec(video[0]) if video else "",
        mid=first.rtp.muxId,
        ufrag=(first.ice and first.ice.usernameFragment) or "",
    )


def _left_out(line: str) -> bool:
    """Lines that do more harm than good: names to look up, and an end of candidates that others reach us without."""
    if line.startswith("a=candidate:"):
        words = line.split()
        return len(words) > 4 and words[4].endswith(LOCAL_NAME)
    return line.startswith("a=end-of-candidates")


def _media(text: str) -> list[MediaDescription]:
    try:
        description = SessionDescription.parse(text)
    except Exception as error:  # The parser has no error of its own: it asserts, indexes and converts.
        raise InvalidInput(FIELD, "cannot be understood", "an SDP offer of WebRTC") from error
    if not text.startswith("v=0") or not description.media:
        raise InvalidInput(FIELD, "has no media sections", "an SDP offer of WebRTC")
    for part in description.media:
        _check(part)
    return description.media


def _check(part: MediaDescription) -> None:
    """What aiortc would otherwise fail on later."""
    if part.kind not in ("audio", "video", "application"):
        raise InvalidInput(FIELD, f"media of kind {part.kind[:20]!r}", "audio, video or application")
    if not part.ice or not part.ice.usernameFragment or not part.ice.password:
        raise InvalidInput(FIELD, f"the {part.kind} section has no ice-ufrag or no ice-pwd")
    if part.dtls is None or not part.dtls.fingerprints:
        raise InvalidInput(FIELD, f"the {part.kind} section has no fingerprint or no setup")
    if part.kind != "application" and not part.rtcp_mux:
        raise InvalidInput(FIELD, f"the {part.kind} section has no rtcp-mux")
    if len(part.ice_candidates) > MOST_CANDIDATES:
        raise InvalidInput(FIELD, f"more than {MOST_CANDIDATES} candidates")


def _common(kind: str, part: MediaDescription) -> set[str]:
    """Names of codecs that both sides can, in small letters."""
    try:
        return {codec.name.lower() for codec in find_common_codecs(CODECS[kind], part.rtp.codecs)}
    except Exception as error:
        raise InvalidInput(FIELD, f"the codecs of the {kind} section cannot be understood") from error


def _video_codec(part: MediaDescription) -> str:
    common = _common("video", part)
    for name in ("H264", "VP8"):
        if name.lower() in common:
            return name
    raise InvalidInput(FIELD, "the video section offers neither H.264 nor VP8", "one of them")


def candidates_of(fragment: str, offer: Offer) -> list[RTCIceCandidate]:
    """The candidates of a trickle-ice-sdpfrag. Raises InvalidInput; also for the credentials of an ICE restart."""
    found = []
    for line in fragment.splitlines():
        name, _, value = line.partition(":")
        if name == "a=ice-ufrag" and value.strip() != offer.ufrag:
            raise InvalidInput(
                "ice-ufrag", "is not that of the offer", "no ICE restart: post a new offer with ?session="
            )
        if name == "a=candidate" and not _left_out(line):
            found.append(_candidate(value, offer.mid))
    if len(found) > MOST_CANDIDATES:
        raise InvalidInput("candidate", f"more than {MOST_CANDIDATES} at once")
    return found


def _candidate(value: str, mid: str) -> RTCIceCandidate:
    try:
        candidate = candidate_from_sdp(value)
    except Exception as error:  # See `_media`.
        raise InvalidInput("candidate", "cannot be understood", "a candidate line of SDP") from error
    candidate.sdpMid = mid
    return candidate
