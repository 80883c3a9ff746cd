"""Where a live session plays: its clock, and what is heard and seen at every moment of it.

Sound goes out when it is due, whatever else happens. Pictures are ordered ahead, released with the sound of the same moment,
and left out when they would come too late: the rate falls, and the last one stays.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway import speech
from gateway.clock import Clock
from gateway.live.face import LiveFace
from gateway.live.metrics import LiveMetrics
from gateway.live.playout import FADE_MS, Playout, State
from gateway.live.program import SOUND_MS, Picture, Program, Sound, Told
from gateway.live.script import Part, Script
from talkmesh.animation.v1 import animation_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.render.v1 import render_pb2

IDLE_AHEAD_MS, SPEAKING_AHEAD_MS = 90.0, 240.0
"""How long before their time frames are ordered."""
LATE_S = 0.04
UNDER_WAY = 2
"""Frames that the renderer has at a time: one that it draws, and the next."""
KEYFRAME_PAUSE_S = 0.5
EMA = 0.1


@dataclass(frozen=True)
class Waiting:
    """A frame or picture that is not due yet."""

    start: int
    speaking: bool
    engine_ms: float
    frame: animation_pb2.FaceFrame | None = None
    picture: render_pb2.VideoFrame | None = None


class Drawing:
    """How long a picture takes from its frame to here, with what is under way before it."""

    def __init__(self) -> None:
        self._sent: deque[tuple[int, float, int]] = deque(maxlen=256)
        self._each_s = 0.02

    def sent(self, start: int, under_way: int) -> None:
        """A frame goes to the renderer behind so many others."""
        self._sent.append((start, time.perf_counter(), under_way + 1))

    def came(self, start: int) -> None:
        """A picture is there."""
        while self._sent and self._sent[0][0] < start:
            self._sent.popleft()
        if self._sent and self._sent[0][0] == start:
            _, at, count = self._sent.popleft()
            self._each_s += EMA * ((time.perf_counter() - at) / count - self._each_s)

    def takes_s(self, under_way: int) -> float:
        """For one more."""
        return self._each_s * (under_way + 1)


class Stage:
    """The clock begins with `run`. What it calls must not wait."""

    def __init__(self, clock: Clock, program: Program, metrics: LiveMetrics) -> None:
        self.playout = Playout(clock)
        self.program = program
        self.face: LiveFace | None = None
        self.turn_id = ""
        self.position = 0
        """Everything before this sample is released."""
        self.cut_at = 0
        self.begun_at: int | None = None
        self.ended_at = 0
        self.pictures_shown = 0
        self.decide: Callable[[], None] = lambda: None
        """Called once a tick, before anything else."""
        self.played: Callable[[], None] = lambda: None
        """Called when a reply was heard to its end."""
        self.shown: Callable[[str, float], None] = lambda stage, engine_ms: None
        """Called for the first audio, face frame and picture of a reply."""
        self._clock = clock
        self._metrics = metrics
        self._step = clock.samples(SOUND_MS)
        self._began = time.perf_counter()
        self._first: set[str] = set()
        self._waiting: deque[Waiting] = deque()
        self._to_draw: deque[tuple[int, animation_pb2.FaceFrame]] = deque()
        self._drawing = Drawing()
        self._keyframe_at = 0.0
        self.tells_frames = False
        """Whether somebody wants the face's numbers."""

    async def run(self) -> None:
        """Keep time until cancelled."""
        self._began = time.perf_counter()
        ticks = 0
        while True:
            if (early := self._due(ticks * self._step) - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            elif ticks % 25 == 0:
                await asyncio.sleep(0)
            self._metrics.ticked(-early)
            self._tick(ticks * self._step)
            ticks += 1

    def _due(self, sample: int) -> float:
        """When a sample is heard, in seconds of perf_counter."""
        return self._began + sample / self._clock.rate_hz

    # --- the reply --------------------------------------------------------------------------------------------------

    def play(self, script: Script) -> None:
        """A reply to be heard as soon as there is enough of it."""
        self.playout.load(script)
        self.begun_at, self.pictures_shown = None, 0
        self._first.clear()

    def hold(self) -> None:
        """Be silent from now on, ready to go on."""
        was = self.playout.state
        self.playout.hold(self.position)
        if was is State.PLAYING:
            at = self.position
            # What dies away of it belongs to it: nothing of it is left when this returns.
            self._release_sound(at)
            self._cut(at)
            self.cut_at = at + self._clock.samples(FADE_MS)

    def resume(self) -> None:
        self.playout.resume()

    def stop(self) -> None:
        """The reply is over."""
        if self.playout.state is State.PLAYING and not self.playout.is_over:
            self.hold()
        self.ended_at = self.position
        self.playout.unload()

    def withdrawn(self) -> None:
        """Sounds that the face was told of will not be heard."""
        if self.playout.state is State.PLAYING and self.face:
            self._cut(self.position)
            self.playout.forget_parts()

    def heard_text(self) -> str:
        """The words of the reply that were heard to their end."""
        script = self.playout.script
        return " ".join(script.words_before(self.playout.at)) if script else ""

    @property
    def heard_ms(self) -> float:
        """So much of the reply was heard."""
        return self.playout.heard_ms

    def _cut(self, at: int) -> None:
        """Nobody speaks from a sample on."""
        self.cut_at = at
        if self.face:
            self.face.cut(at)
        self._waiting = deque(waiting for waiting in self._waiting if waiting.start < at)
        self._to_draw = deque((place, frame) for place, frame in self._to_draw if place < at)

    # --- the clock --------------------------------------------------------------------------------------------------

    def _tick(self, start: int) -> None:
        """Everything that belongs to [start, start + step)."""
        self.position = max(self.position, start)
        self.decide()
        if self.playout.can_begin():
            self._begin(start)
        self._tell_face()
        self._order(start)
        if self.position == start:
            self._release_sound(start)
        self._release_due(start + self._step)
        if self.playout.is_over and self.playout.state is not State.HELD:
            self.played()

    def _begin(self, start: int) -> None:
        """Let the reply begin, or go on, now.

        The picture of this moment is out: it shows a mouth that is still shut, as does the next one, which comes a little
        into its time. A reply begins with a moment of breath, and waiting for a picture would have the voice wait as well.
        """
        if self.face and self.face.horizon > start:
            self._cut(start)
        self.playout.begin(start)
        if self.begun_at is None:
            self.begun_at = start

    def _tell_face(self) -> None:
        """Have the face know what will be heard."""
        if self.playout.state is not State.PLAYING:
            return
        for part in self.playout.news():
            if self.face:
                self.face.say(part, self.turn_id)
            self._tell_words(part)
        script = self.playout.script
        if self.face and script and script.parts and not script.parts[-1].phonemes:
            self.face.follow(*self.playout.heard(), script.parts[-1], self.turn_id)

    def _tell_words(self, part: Part) -> None:
        if part.phonemes:
            self.tell(
                self.turn_id,
                self.face.generation if self.face else 0,
                phonemes=conversation_pb2.ClausePhonemes(
                    clause_index=part.clause,
                    start_sample=part.start,
                    end_sample=part.end,
                    phonemes=speech.phoneme_protos(part.phonemes),
                    words=speech.word_protos(part.words),
                ),
            )

    def _order(self, start: int) -> None:
        if self.face:
            playing = self.playout.state is State.PLAYING
            until = start + self._clock.samples(SPEAKING_AHEAD_MS if playing else IDLE_AHEAD_MS)
            certain = self.playout.certain
            self.face.order(until if certain is None else min(until, certain))

    def _release_sound(self, start: int) -> None:
        was, before = self.playout.state, self.playout.at
        piece = self.playout.release(start, self._step)
        if was is State.PLAYING and self.playout.at > before and any(piece.data):
            self._mark("first_audio", 0.0)
        if was is State.PLAYING and self.playout.state is State.WAITING:
            self._metrics.ran_dry()
            self._cut(start + self._step)
        self.program.release(Sound(start, piece.data, piece.speaking))
        self.position = start + self._step

    def _mark(self, stage: str, engine_ms: float) -> None:
        if stage not in self._first:
            self._first.add(stage)
            self.shown(stage, engine_ms)

    # --- the face ---------------------------------------------------------------------------------------------------

    async def take_frame(self, frame: animation_pb2.FaceFrame) -> None:
        """A face frame has come."""
        face = self.face
        place = face.placed(frame.start_sample) if face else None
        if face is None or place is None:
            return
        if frame.turn_id:
            self._mark("first_face_frame", frame.engine_ms)
        if self.tells_frames:
            told = animation_pb2.FaceFrame()
            told.CopyFrom(frame)
            told.start_sample = place
            self._wait(Waiting(place, bool(frame.turn_id), 0.0, frame=told))
        if face.draws and self.program.watched:
            self._to_draw.append((place, frame))
            self._draw(face)

    def _draw(self, face: LiveFace) -> None:
        """Give the renderer its next frames: few at a time, so that those which would be late by then can be left out."""
        while self._to_draw and face.under_way < UNDER_WAY:
            place, frame = self._to_draw.popleft()
            if self._in_time(place, face.under_way):
                self._drawing.sent(frame.start_sample, face.under_way)
                face.draw(frame)
            else:
                self._metrics.skipped()

    def _in_time(self, place: int, under_way: int) -> bool:
        """Whether a picture would be there by the end of its time."""
        lasts = float(1 / self._clock.fps)
        return time.perf_counter() + self._drawing.takes_s(under_way) < self._due(place) + lasts

    async def take_picture(self, picture: render_pb2.VideoFrame) -> None:
        """A picture has come."""
        self._drawing.came(picture.start_sample)
        place = self.face.placed(picture.start_sample) if self.face else None
        if self.face:
            self._draw(self.face)
        if place is None:
            return
        late = self._due(place) + LATE_S < time.perf_counter()
        self._metrics.shown(self.program.width, late, picture.render_ms / 1000)
        self._wait(Waiting(place, bool(picture.turn_id), picture.render_ms, picture=picture))

    def _wait(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        self._release_due(self.position)

    def _release_due(self, until: int) -> None:
        """Release what is due before a sample."""
        while self._waiting and self._waiting[0].start < until:
            waiting = self._waiting.popleft()
            if waiting.frame:
                self.tell(self.turn_id, waiting.frame.generation, face_frame=waiting.frame)
            elif waiting.picture:
                self._show(waiting, waiting.picture)

    def _show(self, waiting: Waiting, picture: render_pb2.VideoFrame) -> None:
        if waiting.speaking:
            self.pictures_shown += 1
            self._mark("first_video_frame", waiting.engine_ms)
        self.program.release(Picture(waiting.start, picture.data, picture.keyframe, waiting.speaking))

    def want_keyframe(self) -> None:
        """For a newcomer, or somebody who has lost a picture; not more than two a second."""
        now = time.perf_counter()
        if self.face and now - self._keyframe_at > KEYFRAME_PAUSE_S:
            self._keyframe_at = now
            self.face.want_keyframe()

    # --- telling ----------------------------------------------------------------------------------------------------

    def tell(self, turn_id: str, generation: int, **event: Any) -> None:
        """Tell everybody."""
        told = conversation_pb2.ConverseResponse(turn_id=turn_id, generation=generation, **event)
        self.program.release(Told(told))
