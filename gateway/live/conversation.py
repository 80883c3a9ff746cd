"""A live session's turns: who has the floor, what is prepared, what is played.

Everything that decides runs on the clock's ticks or in the moment that something arrives, in one task at a time and without
waiting, so that nothing can come in between.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway import speech, traces, turn
from gateway.cast import Cast
from gateway.continuing import Services
from gateway.experiments.sessions import told
from gateway.live.barge_in import BargeIn, Wish
from gateway.live.draft import Draft, Question
from gateway.live.endpointing import Endpointing
from gateway.live.metrics import LiveMetrics
from gateway.live.playout import State
from gateway.live.room import Room
from gateway.live.stage import Stage
from gateway.sessions import Session
from gateway.waterfall import LIVE_STAGES, Waterfall
from gateway.wishes import Wishes
from services.runtime.errors import Busy
from talkmesh.asr.v1 import asr_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2

KINDS = asr_pb2.SpeechActivity
WAITING = 32
MOST_TRIES = 3
"""Replies begun on a guess in one turn of the user."""
FORGOTTEN = "-"
"""Stands for a turn where there is none: what was said until then is of no interest."""
GOES_ON_MS = 1_500
"""Whoever speaks again after so short a pause, into a reply that has hardly begun, had not finished."""
HARDLY_BEGUN_MS = 800.0
HESITATES_MS = 50
"""A voice is told some 40 ms after it has begun."""
NOT_WORDS = re.compile(r"[^\w']+")


@dataclass
class Take:
    """The turn in progress: from the moment that it is certain that it is one."""

    turn_id: str
    user_text: str
    draft: Draft
    waterfall: Waterfall
    heard_by: list[model_pb2.ServingModel] = field(default_factory=list)
    silent_at: int | None = None
    """Where the user's voice was last heard, in samples of their audio; None if this turn was not spoken."""
    told: int = 0
    """Clauses that were told."""
    apologised: bool = False


@dataclass(frozen=True)
class Opening:
    """A turn that waits: typed by the user, or to be said."""

    turn_id: str
    question: Question
    at: float


@dataclass
class Ended:
    """A turn of the user that is over, and waits for what was said in it."""

    turn_id: str
    silent_since: float
    """When the last voice arrived, in seconds of perf_counter."""
    at: float
    silent_at: int
    """Where the voice was last heard, in samples of the user's audio."""
    went_on: int | None = None
    """Where it was heard again."""


@dataclass
class Tries:
    """Replies begun on a guess since the last turn."""

    begun: int = 0
    discarded: int = 0
    wasted_ms: float = 0.0


class LiveConversation:
    """The state of one live session. Its stage plays; services answer through `transcript`, `activity` and drafts."""

    def __init__(
        self,
        mesh: Services,
        wishes: Wishes,
        session: Session,
        cast: Cast,
        stage: Stage,
        endpointing: Endpointing,
        work: asyncio.TaskGroup,
        metrics: LiveMetrics,
    ) -> None:
        self._mesh = mesh
        self._wishes = wishes
        self._session = session
        self._cast = cast
        self._stage = stage
        self._endpointing = endpointing
        self._work = work
        self._metrics = metrics
        self.done: Callable[[str, conversation_pb2.TurnDone], None] = lambda turn_id, done: None
        """Called when a turn is over."""
        self._rate = wishes.config.input.sample_rate_hz or 1
        self._barge_in = BargeIn(self._rate)
        self._room = Room()
        self._interruptible = wishes.interruptible
        self.push_to_talk = wishes.push_to_talk
        self._queue: deque[Opening] = deque()
        self._take: Take | None = None
        self._guess: Draft | None = None
        self._guess_marks: tuple[float, float] = (0.0, 0.0)
        self._ended: Ended | None = None
        self._tries = Tries()
        self._floor = conversation_pb2.FLOOR_IDLE
        self._finals: list[str] = []
        self._interim = ""
        self._interim_at: tuple[float, float] = (0.0, 0.0)
        self._pressed = False
        self._user_speaks = False
        self._paused_at: int | None = None
        """Where the user's voice was last heard; None while it is, or was not yet."""
        self._listened = 0
        """Samples of the user's audio so far."""
        self._listened_at = time.perf_counter()
        self.flush: Callable[[str, int], None] = lambda turn_id, generation: None
        stage.decide, stage.played, stage.shown = self.decide, self._played, self._shown

    # --- what the user does -----------------------------------------------------------------------------------------

    def listened(self, samples: int, levels: Sequence[float] = ()) -> None:
        """So much of the user's audio came, and this loud it was: see `Room`."""
        self._room.heard(levels)
        self._listened += samples
        self._listened_at = time.perf_counter()

    def ask(self, question: Question) -> str:
        """A turn to come. Returns its id. Raises Busy when too many wait."""
        if len(self._queue) >= WAITING:
            raise Busy(f"{WAITING} turns of this session wait already", retry_after_s=5.0)
        opening = Opening(self._new_turn(), question, time.perf_counter())
        self._queue.append(opening)
        self.decide()
        return opening.turn_id

    def interrupt(self) -> None:
        """Stop what is said, and what waits to be."""
        self._queue.clear()
        self._discard_guess()
        self._end_take(turn.Outcome.INTERRUPTED)

    def press(self) -> None:
        """Push to talk: the user speaks now."""
        self._pressed = True
        self.interrupt()
        self._begin_listening()
        self._endpointing.voiced(self._listened)

    def release(self) -> None:
        """Push to talk: the user has said it."""
        if self._pressed:
            self._pressed = False
            self._endpointing.released(self._listened)
            self._commit()

    @property
    def listens(self) -> bool:
        """Whether the user's audio is of interest."""
        return self._pressed or not self.push_to_talk

    @property
    def is_idle(self) -> bool:
        """Whether nothing is said, prepared or waits."""
        return not (self._take or self._ended or self._queue or self._guess)

    def close(self) -> None:
        """Make no more replies."""
        self._queue.clear()
        if self._guess:
            self._guess.cancel()
        if self._take:
            self._take.draft.cancel()

    # --- what the ASR says ------------------------------------------------------------------------------------------

    def activity(self, activity: asr_pb2.SpeechActivity) -> None:
        """The user began or stopped to speak."""
        self._tell(activity=activity)
        if activity.kind in (KINDS.KIND_SPEECH_STARTED, KINDS.KIND_SPEECH_RESUMED):
            self._voiced(activity.sample)
        else:
            self._user_speaks = self._user_speaks and activity.kind == KINDS.KIND_SPEECH_PAUSED
            self._paused(activity.sample)
        self.decide()

    def _voiced(self, sample: int) -> None:
        self._user_speaks = True
        self._paused_at = None
        self._discard_guess()
        if self._ended and self._ended.went_on is None:
            self._ended.went_on = sample
        if self._take and not self.push_to_talk:
            self._barge_in.voiced(sample)
        self._endpointing.voiced(sample)

    def _paused(self, sample: int) -> None:
        self._paused_at = sample
        self._barge_in.paused(sample)
        self._endpointing.paused(sample)

    def transcript(self, transcript: asr_pb2.Transcript, models: list[model_pb2.ServingModel]) -> None:
        """What was made out."""
        if not transcript.is_final:
            self._made_out(transcript)
        elif self._ended and transcript.turn_id == self._ended.turn_id:
            self._answer(transcript, models)
        elif not transcript.turn_id and self.listens:
            # A monologue that the ASR cuts into utterances: it is one turn all the same.
            self._finals.append(transcript.text)
            self._interim = ""
            self._tell(about_turn="", transcript=transcript)

    def _made_out(self, interim: asr_pb2.Transcript) -> None:
        self._tell(transcript=interim)
        self._interim = interim.text
        self._interim_at = (time.perf_counter(), interim.engine_ms)
        self._barge_in.heard(interim.text)
        self._endpointing.heard(
            self._said,
            round(interim.stability, 3),
            interim.end_sample,
            interim.language or self._wishes.config.language or "en",
        )
        self.decide()

    def predicted(self, complete: float, sample: int) -> None:
        """How likely it is by its sound that the user's turn is over."""
        self._endpointing.predicted(complete, sample)
        self.decide()

    @property
    def _said(self) -> str:
        return " ".join(text for text in (*self._finals, self._interim) if text)

    # --- decisions --------------------------------------------------------------------------------------------------

    def decide(self) -> None:
        """Look at everything anew; called on every tick, and when something was heard."""
        self._cast.follow(at_rest=self._take is None)
        if self._take:
            self._mind_interruptions(self._take)
            if self._take:
                self._tell_clauses(self._take)
        if self._take is None and self._ended is None:
            self._mind_the_user()
        if self._take is None and self._ended is None and self._queue and not self._user_speaks:
            self._begin_queued(self._queue.popleft())
        self._say_floor()

    def _mind_the_user(self) -> None:
        verdict = self._endpointing.verdict()
        later = verdict.speculate_at
        likely = verdict.speculate or (later is not None and self._listened_now >= later)
        if likely and self._guess is None and self._tries.begun < MOST_TRIES:
            self._begin_guess(self._said)
        if verdict.commit_at is not None and not self.push_to_talk and self._is_over(verdict.commit_at):
            self._commit()

    def _is_over(self, commit_at: int) -> bool:
        """Whether the user's turn is, at this sample. If something stirs just then, the ASR has a moment to tell a voice."""
        late = self._listened_now - commit_at
        return late >= 0 and (late >= HESITATES_MS * self._rate // 1000 or not self._room.stirs)

    @property
    def _listened_now(self) -> int:
        """Samples of the user's audio by now, if it comes without gaps: packets are not waited for."""
        return self._listened + round(min(0.06, time.perf_counter() - self._listened_at) * self._rate)

    def _mind_interruptions(self, take: Take) -> None:
        """Be silent while the user may want to speak; stop when they do."""
        if not self._interruptible or self.push_to_talk:
            return
        wish = self._barge_in.wish(self._listened_now)
        playout = self._stage.playout
        if wish is Wish.FLOOR:
            self._metrics.held(interrupted=True)
            self._end_take(turn.Outcome.CONTINUED if self._goes_on(take) else turn.Outcome.INTERRUPTED)
        elif wish is Wish.MAYBE and playout.state in (State.PLAYING, State.WAITING):
            self._stage.hold()
            self._tell(cut=conversation_pb2.Cut(at_sample=self._stage.cut_at, may_resume=True))
        elif wish is Wish.NOTHING and playout.state is State.HELD:
            self._metrics.held(interrupted=False)
            self._stage.resume()
            self._barge_in.reset()
            self._forget_heard()
        elif wish is Wish.NOTHING:
            self._barge_in.reset()

    def _goes_on(self, take: Take) -> bool:
        """Whether the user, who speaks into a reply, only goes on with what they were saying."""
        since = self._barge_in.since
        if take.silent_at is None or since is None or self._stage.heard_ms > HARDLY_BEGUN_MS:
            return False
        return 1000 * (since - take.silent_at) <= GOES_ON_MS * self._rate

    # --- the user's turn --------------------------------------------------------------------------------------------

    def _begin_guess(self, text: str) -> None:
        """Prepare the reply to what was said so far; nobody hears of it before the turn is over."""
        self._tries.begun += 1
        self._guess_marks = self._interim_at
        self._guess = self._draft(self._new_turn(), Question(text))

    def _discard_guess(self) -> None:
        if self._guess:
            self._guess.cancel()
            traces.draft_discarded(self._guess.turn_id, self._guess.began)
            self._tries.discarded += 1
            self._tries.wasted_ms += 1000 * self._guess.script.made / self._wishes.clock.rate_hz
            self._guess = None

    def _commit(self) -> None:
        """The user's turn is over: have the ASR say what was said."""
        last = self._last_voice()
        turn_id = self._guess.turn_id if self._guess else self._new_turn()
        silent_at = self._paused_at if self._paused_at is not None else self._listened
        self._ended = Ended(turn_id, last, time.perf_counter(), silent_at)
        self.flush(turn_id, self._session.generation)

    def _last_voice(self) -> float:
        """When the end of the user's speech arrived, in seconds of perf_counter."""
        since = self._listened - self._paused_at if self._paused_at is not None else 0
        return self._listened_at - max(0, since) / self._rate

    def _answer(self, final: asr_pb2.Transcript, models: list[model_pb2.ServingModel]) -> None:
        """What was said is certain: play the reply that is prepared to it, or make one."""
        ended, self._ended = self._ended, None
        assert ended is not None
        interim, self._interim = self._interim, final.text
        text, guess = self._said, self._guess
        if ended.went_on is not None and not self.push_to_talk:
            self._take_back(final, ended.went_on)
            return
        self._begin_listening()
        self._paused_at = None
        if not text:
            self._discard_guess()
            self._nothing_heard(ended)
            return
        whole = asr_pb2.Transcript()
        whole.CopyFrom(final)
        whole.text = text
        self._tell(about_turn=ended.turn_id, transcript=whole)
        made_out = same_words(final.text, interim)
        marks = self._interim_at if made_out else (time.perf_counter(), final.engine_ms)
        if guess and guess.failed is None and same_words(guess.question.text, text):
            self._guess, marks = None, self._guess_marks
        else:
            self._discard_guess()
            guess = self._draft(ended.turn_id, Question(text))
        waterfall = Waterfall(stages=LIVE_STAGES)
        waterfall.begin(ended.silent_since)
        waterfall.mark("asr_final", *marks)
        waterfall.mark("endpoint", ended.at)
        self._play(Take(ended.turn_id, text, guess, waterfall, models, ended.silent_at))

    def _take_back(self, final: asr_pb2.Transcript, went_on: int) -> None:
        """The user has gone on before anybody could know: the turn is not over, and nobody hears that it was."""
        self._metrics.went_on()
        self._discard_guess()
        said = [*self._finals, final.text] if final.text else [*self._finals]
        paused_at = self._paused_at
        self._begin_listening()
        self._finals += said
        self._endpointing.voiced(went_on)
        if paused_at is not None:
            self._endpointing.paused(paused_at)
        if final.text:
            self._tell(about_turn="", transcript=final)

    def _nothing_heard(self, ended: Ended) -> None:
        """Noise is no turn; only who has pressed a key waits for an answer."""
        if self.push_to_talk:
            outcome = conversation_pb2.OUTCOME_NOTHING_HEARD
            self._tell(about_turn=ended.turn_id, done=conversation_pb2.TurnDone(outcome=outcome))

    def _begin_listening(self) -> None:
        """What is heard from now on belongs to the next turn."""
        self._finals.clear()
        self._interim = ""
        self._endpointing.begin_turn()
        self._barge_in.reset()

    def _forget_heard(self) -> None:
        """It was nothing: it shall not be the beginning of what the user says next."""
        self._begin_listening()
        self.flush(FORGOTTEN, self._session.generation)

    # --- the reply --------------------------------------------------------------------------------------------------

    def _begin_queued(self, opening: Opening) -> None:
        waterfall = Waterfall(stages=LIVE_STAGES)
        waterfall.begin(opening.at)
        draft = self._draft(opening.turn_id, opening.question)
        self._play(Take(opening.turn_id, opening.question.text, draft, waterfall))

    def _draft(self, turn_id: str, question: Question) -> Draft:
        self._session.generation += 1
        draft = Draft(self._mesh, self._wishes, turn_id, self._session.generation, question)
        draft.begin(self._wishes.prompt(self._session.history, question.text), self._work)
        return draft

    def _play(self, take: Take) -> None:
        """Let a reply be heard as soon as it can."""
        self._cast.begin_turn()
        self._take = take
        self._stage.turn_id = take.turn_id
        take.draft.changed = self._changed
        take.draft.withdrawn = self._stage.withdrawn
        self._stage.play(take.draft.script)
        self._changed()

    def _changed(self) -> None:
        """There is more of the reply in progress, or it has failed."""
        take = self._take
        if take is None:
            return
        self._tell_clauses(take)
        draft = take.draft
        if draft.failed and not draft.script.made and not take.apologised and not draft.question.said:
            self._apologise(take)
        elif draft.script.complete and not draft.script.made:
            self._end_take(turn.Outcome.COMPLETED)

    def _apologise(self, take: Take) -> None:
        """The reply could not be made: say so, rather than nothing."""
        take.apologised = True
        self._tell_problem(take)
        take.draft = self._draft(take.turn_id, Question(take.user_text, said=self._wishes.settings.apology))
        take.told = 0
        take.draft.changed, take.draft.withdrawn = self._changed, self._stage.withdrawn
        self._stage.play(take.draft.script)

    def _tell_clauses(self, take: Take) -> None:
        for clause in take.draft.clauses[take.told :]:
            take.told += 1
            shown = speech.expression_proto(clause.expression)
            told = conversation_pb2.ReplyClause(index=clause.index, text=clause.text, expression=shown)
            self._tell(clause=told)

    def _played(self) -> None:
        """All of the reply was heard."""
        self._end_take(turn.Outcome.COMPLETED)

    def _shown(self, stage: str, engine_ms: float) -> None:
        """The first of the reply was heard or seen."""
        if self._take:
            self._take.waterfall.mark(stage, time.perf_counter(), engine_ms)

    def _end_take(self, outcome: turn.Outcome) -> None:
        """The turn in progress is over; what is not heard by now never is."""
        take, self._take = self._take, None
        if take is None:
            return
        take.draft.cancel()
        continued = outcome is turn.Outcome.CONTINUED
        interrupted = continued or outcome is turn.Outcome.INTERRUPTED
        reply_text = take.draft.text
        if interrupted:
            self._stage.hold()
            reply_text = self._stage.heard_text()
            self._session.generation += 1
            self._tell(about_turn=take.turn_id, cut=conversation_pb2.Cut(at_sample=self._stage.cut_at))
        elif take.draft.failed:
            outcome, reply_text = turn.Outcome.FAILED, self._stage.heard_text()
            self._tell_problem(take)
        self._stage.stop()
        if continued:
            # It begins the turn that follows, and nothing else is left of it.
            self._finals.insert(0, take.user_text)
            self._tries.discarded = min(self._tries.begun, self._tries.discarded + 1)
            self._tries.wasted_ms += 1000 * take.draft.script.made / self._wishes.clock.rate_hz
            self._metrics.went_on()
        else:
            self._remember(take, reply_text, interrupted)
        done = self._done(take, outcome, reply_text)
        traces.turn_over(take.turn_id, take.waterfall, done)
        self._metrics.speculated(done.speculation)
        self.done(take.turn_id, done)
        self._tell(about_turn=take.turn_id, done=done)
        self._tries = Tries()
        self._stage.turn_id = ""
        self._barge_in.reset()

    def _remember(self, take: Take, reply_text: str, cut_off: bool) -> None:
        most = self._wishes.settings.max_history_messages
        self._session.remember(take.user_text, reply_text, most, cut_off=cut_off)

    def _done(self, take: Take, outcome: turn.Outcome, reply_text: str) -> conversation_pb2.TurnDone:
        for stage, (at, engine_ms) in take.draft.marks.items():
            if stage in ("first_token", "first_clause"):
                take.waterfall.mark(stage, at, engine_ms)
            elif stage == "first_audio":
                take.waterfall.mark("synthesis", at, engine_ms)
        begun, gap = self._stage.begun_at, self._stage.playout.longest_gap
        take.waterfall.gap_ms = 1000 * gap / self._wishes.clock.rate_hz
        return conversation_pb2.TurnDone(
            outcome=conversation_pb2.Outcome.ValueType(outcome.value),
            user_text=take.user_text,
            reply_text=reply_text,
            waterfall=take.waterfall.proto(),
            start_sample=begun if begun is not None else self._stage.position,
            end_sample=self._stage.ended_at,
            video_frames=self._stage.pictures_shown,
            reply_tokens=take.draft.tokens,
            models=[*take.heard_by, *self._cast.faces, *take.draft.models],
            assignments=told(self._session),
            speculation=conversation_pb2.Speculation(
                begun=self._tries.begun, discarded=self._tries.discarded, discarded_audio_ms=self._tries.wasted_ms
            ),
        )

    # --- telling ----------------------------------------------------------------------------------------------------

    def _tell_problem(self, take: Take) -> None:
        problem = str(take.draft.failed)
        self._tell(about_turn=take.turn_id, problem=conversation_pb2.Problem(message=problem))

    def _say_floor(self) -> None:
        """Tell who has the floor, when that changes."""
        playing = self._stage.playout.state is State.PLAYING
        if playing:
            floor = conversation_pb2.FLOOR_SPEAKING
        elif self._user_speaks or self._pressed or self._said:
            floor = conversation_pb2.FLOOR_LISTENING
        elif self._take or self._ended:
            floor = conversation_pb2.FLOOR_THINKING
        else:
            floor = conversation_pb2.FLOOR_IDLE
        if floor != self._floor:
            self._floor = floor
            self._tell(floor=conversation_pb2.FloorChange(floor=floor))

    def _tell(self, about_turn: str | None = None, **event: object) -> None:
        turn_id = about_turn if about_turn is not None else (self._take.turn_id if self._take else "")
        self._stage.tell(turn_id, self._session.generation, **event)

    def _new_turn(self) -> str:
        self._session.turns += 1
        return f"{self._session.id[:8]}-{self._session.turns}"


def same_words(one: str, other: str) -> bool:
    """Whether two texts differ in case and punctuation only."""
    return NOT_WORDS.sub(" ", one.lower()).split() == NOT_WORDS.sub(" ", other.lower()).split()
