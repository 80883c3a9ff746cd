"""A live session as one MP4 that does not end before the session does."""

from collections.abc import AsyncIterator
from fractions import Fraction

from gateway.live.program import Picture, Program
from gateway.mp4 import Mp4Writer
from gateway.outputs.beginning import from_keyframe

LAG_MS = 2000.0


async def mp4_of(program: Program) -> AsyncIterator[bytes]:
    """A fragmented MP4 from the next keyframe on, whose clock begins with it.

    What a reader takes too late is left out: silence, and the picture before, are in its place.
    """
    writer: Mp4Writer | None = None
    with program.watch(told=False, lag_ms=LAG_MS) as viewer:
        async for item in from_keyframe(viewer, program.rate_hz):
            if writer is None:
                size, fps = (program.width, program.height), Fraction(program.fps)
                writer = Mp4Writer(*size, fps, program.rate_hz, start_sample=item.start)
            if isinstance(item, Picture):
                data = writer.video(item.data, item.start, item.keyframe)
            else:
                data = writer.audio(item.data, item.start)
            if data:
                yield data
    if writer is not None:
        yield writer.close()
