"""One turn, as a state machine with no I/O in it: inputs go in, commands come out.

    LISTENING ─EndOfTurn─► TRANSCRIBING ─Heard─► THINKING ─first clause─► SPEAKING ─all shown─► FINISHED
        └──────────────TextGiven──────────────►───┘           Interrupted ──► CLOSING ──────────────┘

Positions are samples of the session's clock. Speech is laid on the clock as it comes; the face follows it, a window of
frames at a time, so that little is under way when the turn is cut short.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from gateway.clauses import ClauseCutter
from gateway.clock import Clock
from gateway.emotion import Expression
from gateway.waterfall import Waterfall


class State(Enum):
    LISTENING = auto()
    TRANSCRIBING = auto()
    THINKING = auto()
    SPEAKING = auto()
    CLOSING = auto()
    FINISHED = auto()


class Outcome(Enum):
    """The values are those of talkmesh.conversation.v1.Outcome."""

    COMPLETED = 1
    INTERRUPTED = 2
    NOTHING_HEARD = 3
    FAILED = 4
    CONTINUED = 5


# --- inputs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextGiven:
    """The user typed."""

    text: str


@dataclass(frozen=True)
class EndOfTurn:
    """The user stopped to speak."""


@dataclass(frozen=True)
class Heard:
    """What the user said, finally."""

    text: str
    engine_ms: float = 0.0


@dataclass(frozen=True)
class Delta:
    """More of the reply's text."""

    text: str
    engine_ms: float = 0.0


@dataclass(frozen=True)
class ReplyWritten:
    """The reply's text is complete."""

    tokens: int


@dataclass(frozen=True)
class Span:
    """A phoneme or a word, and where it is heard."""

    text: str
    start: int
    end: int
    stress: int = 0


@dataclass(frozen=True)
class ClausePlanned:
    """How a clause will be spoken. Positions count from the start of the reply. No phonemes: the voice tells none."""

    index: int
    start: int
    phonemes: tuple[Span, ...]
    words: tuple[Span, ...]
    expression: Expression
    engine_ms: float = 0.0


@dataclass(frozen=True)
class AudioCame:
    """Audio of the reply, PCM_S16LE mono. `start` counts from the start of the reply."""

    start: int
    data: bytes


@dataclass(frozen=True)
class SpeechCut:
    """The voice was lost, and another goes on: what was planned from `at` on, counted as above, will not be heard."""

    at: int


@dataclass(frozen=True)
class SpeechEnded:
    """All of the reply has been synthesised."""


@dataclass(frozen=True)
class FaceMade:
    """A face frame came back."""

    start: int
    speaking: bool
    engine_ms: float = 0.0


@dataclass(frozen=True)
class FrameShown:
    """The last stage of the face is done with a frame."""

    start: int
    speaking: bool
    engine_ms: float = 0.0


@dataclass(frozen=True)
class Interrupted:
    """The user wants no more of this reply."""


Input = (
    TextGiven
    | EndOfTurn
    | Heard
    | Delta
    | ReplyWritten
    | ClausePlanned
    | AudioCame
    | SpeechCut
    | SpeechEnded
    | FaceMade
    | FrameShown
    | Interrupted
)

# --- commands -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AwaitTranscript:
    """Wait for the ASR's final transcript of this turn."""


@dataclass(frozen=True)
class Generate:
    """Ask the LLM for a reply."""

    user_text: str


@dataclass(frozen=True)
class Say:
    """Show a clause, and speak it."""

    index: int
    text: str
    expression: Expression


@dataclass(frozen=True)
class CloseSpeech:
    """There are no more clauses to speak."""


@dataclass(frozen=True)
class ShowPhonemes:
    """Tell the client where sounds of a clause lie: those that are certain to be heard, just before they are."""

    clause_index: int
    start: int
    end: int
    phonemes: tuple[Span, ...]
    words: tuple[Span, ...]


@dataclass(frozen=True)
class Play:
    """Send audio to the client."""

    start: int
    data: bytes


@dataclass(frozen=True)
class MoveFace:
    """Let the face speak a clause."""

    start: int
    end: int
    phonemes: tuple[Span, ...]
    expression: Expression


@dataclass(frozen=True)
class MoveFaceByAudio:
    """Let the face follow audio of which no phonemes are known."""

    start: int
    data: bytes
    expression: Expression


@dataclass(frozen=True)
class Advance:
    """Make the face frames before a sample."""

    until: int


@dataclass(frozen=True)
class CutSpeech:
    """Stop LLM and TTS, and drop all speech from a sample on."""

    at: int


@dataclass(frozen=True)
class Finish:
    """The turn is over; the next one starts at `end`."""

    outcome: Outcome
    end: int


Command = (
    AwaitTranscript
    | Generate
    | Say
    | CloseSpeech
    | ShowPhonemes
    | Play
    | MoveFace
    | MoveFaceByAudio
    | Advance
    | CutSpeech
    | Finish
)

# --- the machine ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Sounds and words to come, in their order, that no audio has come for yet. Positions are on the session's clock."""

    index: int = 0
    phonemes: tuple[Span, ...] = ()
    words: tuple[Span, ...] = ()
    expression: Expression = field(default_factory=Expression)

    def split(self, at: int) -> "tuple[Plan, Plan]":
        """What ends before or at a sample, and the rest."""
        return (
            replace(self, phonemes=before(self.phonemes, at), words=before(self.words, at)),
            replace(self, phonemes=behind(self.phonemes, at), words=behind(self.words, at)),
        )

    def ended(self, at: int) -> "Plan":
        """What begins before a sample; a sound in progress there ends there, and a word in progress is none."""
        phonemes = tuple(replace(span, end=min(span.end, at)) for span in self.phonemes if span.start < at)
        return replace(self, phonemes=phonemes, words=before(self.words, at))


@dataclass
class Turn:
    """`step` takes an input and the time it came at (seconds, monotonic), and says what to do about it."""

    clock: Clock
    start: int
    """Where the reply begins: the start of a frame."""
    tail: int
    """Samples of still face after the reply."""
    window: int
    """Most frames under way."""
    speaks: bool
    """Whether the reply is spoken at all."""
    shows: bool
    """Whether there is a face."""
    express: Callable[[str], Expression]
    state: State = State.LISTENING
    user_text: str = ""
    reply_text: str = ""
    reply_tokens: int = 0
    waterfall: Waterfall = field(default_factory=Waterfall)

    def __post_init__(self) -> None:
        self._cutter = ClauseCutter()
        self._clauses: list[str] = []
        self._words: list[Span] = []
        self._ahead = Plan()
        self._by_audio: Expression | None = None
        self._written_ms = self._synthesis_ms = 0.0
        self._spoken_until = self.start
        self._face_known_until = self.start
        self._advanced = self._shown = self.clock.frames_before(self.start)
        self._end: int | None = None
        self._outcome = Outcome.COMPLETED

    def step(self, given: Input, at: float) -> list[Command]:
        """Inputs that the state has no use for (they were overtaken) are dropped."""
        match self.state, given:
            case State.LISTENING, TextGiven(text):
                self.waterfall.begin(at)
                return self._think(text)
            case State.LISTENING, EndOfTurn():
                self.waterfall.begin(at)
                self.state = State.TRANSCRIBING
                return [AwaitTranscript()]
            case State.TRANSCRIBING, Heard(text, engine_ms):
                self.waterfall.mark("asr_final", at, engine_ms)
                return self._think(text) if text else self._finish(Outcome.NOTHING_HEARD, self.start)
            case ((State.THINKING | State.SPEAKING), Delta(text, engine_ms)):
                self.waterfall.mark("first_token", at, engine_ms)
                self._written_ms = engine_ms
                return self._say(self._cutter.push(text), at)
            case ((State.THINKING | State.SPEAKING), ReplyWritten(tokens)):
                return self._written(tokens, at)
            case State.SPEAKING, ClausePlanned():
                return self._planned(given)
            case State.SPEAKING, AudioCame(start, data):
                self.waterfall.mark("first_audio", at, self._synthesis_ms)
                self.waterfall.sound(at, len(data) / 2 / self.clock.rate_hz)
                return self._audio(self.start + start, data)
            case State.SPEAKING, SpeechCut(at):
                return self._forget_plan(self.start + at)
            case State.SPEAKING, SpeechEnded():
                return self._speech_ended()
            case ((State.SPEAKING | State.CLOSING), FaceMade(_, speaking, engine_ms)):
                if speaking:
                    self.waterfall.mark("first_face_frame", at, engine_ms)
                return []
            case ((State.SPEAKING | State.CLOSING), FrameShown(start, speaking, engine_ms)):
                return self._frame_shown(start, speaking, engine_ms, at)
            case ((State.LISTENING | State.TRANSCRIBING | State.THINKING), Interrupted()):
                return self._finish(Outcome.INTERRUPTED, self.start)
            case State.SPEAKING, Interrupted():
                return self._cut()
        return []

    def _think(self, text: str) -> list[Command]:
        self.user_text = text
        self.state = State.THINKING
        return [Generate(text)]

    def _say(self, texts: list[str], at: float) -> list[Command]:
        commands: list[Command] = []
        for text in texts:
            first_ms = self.waterfall.engine_ms.get("first_token", 0.0)
            self.waterfall.mark("first_clause", at, max(0.0, self._written_ms - first_ms))
            self.state = State.SPEAKING
            commands.append(Say(len(self._clauses), text, self.express(text)))
            self._clauses.append(text)
        self.reply_text = " ".join(self._clauses)
        return commands

    def _written(self, tokens: int, at: float) -> list[Command]:
        self.reply_tokens = tokens
        commands = self._say(self._cutter.flush(), at)
        if not self._clauses or not self.speaks:
            return commands + self._finish(Outcome.COMPLETED, self.start)
        return [*commands, CloseSpeech()]

    def _planned(self, clause: ClausePlanned) -> list[Command]:
        phonemes, words = moved(clause.phonemes, self.start), moved(clause.words, self.start)
        self._synthesis_ms = clause.engine_ms
        self._by_audio = None if phonemes else clause.expression
        commands = self._certain(self._spoken_until)
        self._ahead = Plan(
            clause.index, (*self._ahead.phonemes, *phonemes), (*self._ahead.words, *words), clause.expression
        )
        if not phonemes:
            return commands
        self._face_known_until = phonemes[-1].end
        if self.shows:
            start = self.start + clause.start
            commands.append(MoveFace(start, self._face_known_until, phonemes, clause.expression))
        return commands

    def _audio(self, start: int, data: bytes) -> list[Command]:
        self._spoken_until = start + len(data) // 2
        commands: list[Command] = [*self._certain(self._spoken_until), Play(start, data)]
        if not self.shows:
            return commands
        if self._by_audio is not None:
            self._face_known_until = self._spoken_until
            commands.append(MoveFaceByAudio(start, data, self._by_audio))
        return commands + self._advance()

    def _certain(self, until: int) -> list[Command]:
        """Tell of the sounds that are wholly before a sample, up to which there is audio."""
        heard, self._ahead = self._ahead.split(until)
        return self._heard(heard)

    def _heard(self, plan: Plan) -> list[Command]:
        self._words += plan.words
        if not plan.phonemes:
            return []
        return [ShowPhonemes(plan.index, plan.phonemes[0].start, plan.phonemes[-1].end, plan.phonemes, plan.words)]

    def _forget_plan(self, at: int) -> list[Command]:
        """Let the face rest from there on, instead of saying what the next voice will say in its own time."""
        known, self._face_known_until = self._face_known_until, at
        heard, self._ahead = self._ahead.ended(at), Plan()
        commands = self._heard(heard)
        if self.shows and known > at:
            commands.append(MoveFace(at, known, (Span("", at, known),), heard.expression))
        return commands

    def _speech_ended(self) -> list[Command]:
        end = self.clock.aligned(self._spoken_until + self.tail)
        silence = Play(self._spoken_until, bytes(2 * (end - self._spoken_until)))
        return [*self._certain(end), silence, *self._end_at(end)]

    def _end_at(self, end: int) -> list[Command]:
        self._end = self._face_known_until = self._spoken_until = end
        if not self.shows:
            return self._finish(self._outcome, end)
        return self._advance() + self._finish_if_shown()

    def _advance(self) -> list[Command]:
        """Let as many frames be made as the window allows and the speech is certain for: known, and its audio there."""
        known = min(self._face_known_until, self._spoken_until)
        frame = min(self.clock.frames_before(known), self._shown + self.window)
        if frame <= self._advanced:
            return []
        self._advanced = frame
        return [Advance(self.clock.frame_start(frame))]

    def _frame_shown(self, start: int, speaking: bool, engine_ms: float, at: float) -> list[Command]:
        if speaking:
            self.waterfall.mark("first_video_frame", at, engine_ms)
        self._shown = self.clock.frames_before(start) + 1
        return self._advance() + self._finish_if_shown()

    def _finish_if_shown(self) -> list[Command]:
        if self._end is None or self._shown < self.clock.frames_before(self._end):
            return []
        return self._finish(self._outcome, self._end)

    def _cut(self) -> list[Command]:
        """Stop where the face has got to: audio, face and pictures end at one sample, and the mouth closes after it."""
        at = self.clock.frame_start(self._advanced) if self.shows else self._spoken_until
        at = min(at, max(self._spoken_until, self.start))
        at = self.clock.aligned(at)
        self.state = State.CLOSING
        self._outcome = Outcome.INTERRUPTED
        self.reply_text = " ".join(word.text for word in self._words if word.end <= at)
        end = max(self.clock.aligned(at + self.tail), self.clock.frame_start(self._advanced))
        return [CutSpeech(at), Play(at, bytes(2 * (end - at))), *self._end_at(end)]

    def _finish(self, outcome: Outcome, end: int) -> list[Command]:
        self.state = State.FINISHED
        return [Finish(outcome, end)]


def moved(spans: tuple[Span, ...], by: int) -> tuple[Span, ...]:
    """Spans at a later position."""
    return tuple(Span(span.text, span.start + by, span.end + by, span.stress) for span in spans)


def before(spans: tuple[Span, ...], at: int) -> tuple[Span, ...]:
    return tuple(span for span in spans if span.end <= at)


def behind(spans: tuple[Span, ...], at: int) -> tuple[Span, ...]:
    return tuple(span for span in spans if span.end > at)
