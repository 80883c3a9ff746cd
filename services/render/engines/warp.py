"""Draws portrait packs by image warping and encodes them, a few milliseconds a picture on one core."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.render.engine import FaceFrame, Input, KeyframeRequest, RenderConfig, VideoFrame
from services.runtime import priority
from services.runtime.errors import InvalidInput, LoadFailed, NotFound
from services.runtime.options import of_engine

if TYPE_CHECKING:
    from services.render.face import Face

log = logging.getLogger(__name__)
Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"]


class Options(BaseModel):
    """What a catalog entry may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    portrait: str = Field(default="", description="the default one; empty is the first by name")
    sizes: tuple[int, ...] = Field(default=(512, 256, 384), min_length=1, description="in pixels, the default first")
    ready: int = Field(default=2, ge=0, description="so many of the sizes are prepared ahead, for every portrait")
    crf: int = Field(default=23, ge=1, le=51)
    preset: Preset = "superfast"

    @field_validator("sizes")
    @classmethod
    def _drawable(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 128 <= size <= 768 or size % 16 for size in sizes):
            raise ValueError("expected multiples of 16 from 128 to 768")
        return sizes


class WarpEngine:
    """Many streams at a time. They share the prepared portraits, which never change; all else belongs to its stream."""

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        self._options = of_engine(Options, options)
        if source is None:
            raise InvalidInput("source", "is empty", "a folder of portrait packs")
        self._folder = source
        self._portraits: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()
        self._faces: dict[tuple[str, int], asyncio.Task[Face]] = {}
        self._preparing: asyncio.Task[None] | None = None

    @property
    def portraits(self) -> Sequence[str]:
        return self._portraits

    @property
    def sizes(self) -> Sequence[int]:
        return self._options.sizes

    @property
    def blendshape_names(self) -> Sequence[str]:
        return self._names

    async def load(self) -> None:
        """Prepare the default portrait, and begin to prepare the others: a first model is not kept waiting by them.

        Whoever changes to this model from another finds all of them there. Raises LoadFailed without the default one.
        """
        found = sorted(path.parent.name for path in self._folder.glob("*/manifest.json"))
        default = self._options.portrait or next(iter(found), "")
        if default not in found:
            raise LoadFailed(f"{self._folder.name}: no portrait {default!r} among {', '.join(found) or 'none'}")
        self._portraits = (default, *(name for name in found if name != default))
        face = await self._face(default, self._options.sizes[0])
        self._names = face.portrait.unit_names
        self._preparing = asyncio.create_task(self._prepare_all())
        if priority.yields():
            await self._preparing

    async def _prepare_all(self) -> None:
        """One after the other, so that whoever is served meanwhile keeps a core."""
        for size in self._options.sizes[: self._options.ready]:
            for portrait in self._portraits:
                try:
                    await self._face(portrait, size)
                except LoadFailed as error:
                    log.warning("portrait %s is not to be had: %s", portrait, error)

    async def unload(self) -> None:
        if self._preparing:
            self._preparing.cancel()
        faces, self._faces = self._faces, {}
        for task in faces.values():
            task.cancel()
        await asyncio.gather(*faces.values(), return_exceptions=True)

    async def prepare(self, config: RenderConfig) -> None:
        """See RenderEngine."""
        if config.portrait not in self._portraits:
            raise NotFound("portrait", config.portrait, self._portraits)
        await self._face(config.portrait, config.size)

    async def render(self, config: RenderConfig, inputs: AsyncIterator[Input]) -> AsyncGenerator[VideoFrame, None]:
        """See RenderEngine."""
        await self.prepare(config)
        stream = Stream(await self._face(config.portrait, config.size), config, self._options)
        keyframe = False
        async for item in inputs:
            if isinstance(item, KeyframeRequest):
                keyframe = True
                continue
            yield await asyncio.to_thread(stream.picture, item, keyframe)
            keyframe = False

    async def _face(self, portrait: str, size: int) -> "Face":
        """A portrait at a size, prepared once; a stream that goes away does not stop it for the others."""
        key = (portrait, size)
        if key not in self._faces:
            self._faces[key] = asyncio.create_task(asyncio.to_thread(prepare, self._folder / portrait, size))
        task = self._faces[key]
        try:
            return await asyncio.shield(task)
        except LoadFailed:
            self._faces.pop(key, None)
            raise


class Stream:
    """The renderer and the encoder of one call, used by one thread at a time."""

    def __init__(self, face: "Face", config: RenderConfig, options: Options) -> None:
        from services.render.encoder import H264Encoder
        from services.render.warp import WarpRenderer

        self._renderer = WarpRenderer(face, config.blendshape_names)
        size, crf = config.size, config.crf or options.crf
        self._encoder = H264Encoder(size, size, config.fps, crf, options.preset)

    def picture(self, face: FaceFrame, keyframe: bool) -> VideoFrame:
        start = time.perf_counter()
        unit = self._encoder.encode(self._renderer.draw(face.weights, face.head), keyframe)
        took_ms = (time.perf_counter() - start) * 1000
        return VideoFrame(face.turn_id, face.generation, face.start_sample, unit.data, unit.keyframe, took_ms)


def prepare(folder: Path, size: int) -> "Face":
    from services.render.face import build_face
    from services.render.portrait import load_portrait

    return build_face(load_portrait(folder, size))
