"""BGR pictures to H.264 without delay: one picture in, one access unit out."""

from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from services.render.pixels import Image
from services.runtime.errors import InvalidInput

KEYFRAME_EVERY_S = 2
BT709 = 1


@dataclass(frozen=True)
class AccessUnit:
    """One encoded picture in Annex B format; a keyframe carries SPS and PPS."""

    data: bytes
    keyframe: bool


class H264Encoder:
    """libx264 on one thread, without B-frames or lookahead. Not for two threads at once."""

    def __init__(self, width: int, height: int, fps: Fraction, crf: int = 23, preset: str = "superfast") -> None:
        """Raises InvalidInput for odd sizes and for a rate factor outside 1 to 51."""
        if width < 16 or height < 16 or width % 2 or height % 2:
            raise InvalidInput("size", f"is {width} x {height}", "even numbers from 16")
        if not 1 <= crf <= 51:
            raise InvalidInput("crf", f"is {crf}", "1 to 51")
        self._shape = (height, width, 3)
        self._codec = av.CodecContext.create("libx264", "w")
        self._codec.width, self._codec.height = width, height
        self._codec.pix_fmt = "yuv420p"
        self._codec.framerate, self._codec.time_base = fps, 1 / fps
        self._codec.color_range = ColorRange.MPEG
        self._codec.colorspace = self._codec.color_primaries = self._codec.color_trc = BT709
        self._codec.thread_count = 1
        self._codec.options = options(fps, crf, preset)
        self._reformatter = VideoReformatter()
        self._pictures = 0

    def encode(self, picture: Image, keyframe: bool = False) -> AccessUnit:
        """Encode a BGR picture [height, width, 3]; `keyframe` makes it one that a new viewer can start with."""
        if picture.shape != self._shape:
            raise ValueError(f"picture is {picture.shape}, the encoder is for {self._shape}")
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(picture, format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = self._pictures, self._codec.time_base
        frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        self._pictures += 1
        packets = self._codec.encode(frame)
        if len(packets) != 1:
            raise RuntimeError(f"libx264 answered one picture with {len(packets)} packets")
        return AccessUnit(bytes(packets[0]), packets[0].is_keyframe)


def options(fps: Fraction, crf: int, preset: str) -> dict[str, str]:
    interval = max(1, round(KEYFRAME_EVERY_S * fps))
    x264 = f"keyint={interval}:min-keyint=1:scenecut=0:bframes=0:repeat-headers=1:annexb=1:threads=1"
    return {"preset": preset, "tune": "zerolatency", "crf": str(crf), "forced-idr": "1", "x264-params": x264}
