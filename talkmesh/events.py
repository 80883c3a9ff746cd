"""What comes back in a conversation, as frozen dataclasses. Positions are samples of the session's clock."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from typing import Any

from talkmesh.animation.v1 import animation_pb2
from talkmesh.asr.v1 import asr_pb2
from talkmesh.audio.v1 import audio_pb2, speech_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2
from talkmesh.render.v1 import render_pb2


class Emotion(Enum):
    """The values are those of talkmesh.audio.v1.Emotion."""

    NEUTRAL = 1
    HAPPY = 2
    SAD = 3
    ANGRY = 4
    SURPRISED = 5
    FEARFUL = 6
    DISGUSTED = 7


class Outcome(Enum):
    """How a turn ended; the values are those of talkmesh.conversation.v1.Outcome."""

    COMPLETED = 1
    INTERRUPTED = 2
    NOTHING_HEARD = 3
    FAILED = 4
    CONTINUED = 5
    """The user had only paused: what they said so far is the beginning of the next turn."""


@dataclass(frozen=True)
class Model:
    """A model that serves the session."""

    service: str
    name: str
    engine: str
    digest: str
    slot: str
    slot_generation: int


@dataclass(frozen=True)
class Assignment:
    """What an experiment has given to the session; `reason` as OpenFeature names them."""

    flag: str
    variant: str
    reason: str


@dataclass(frozen=True)
class Started:
    """The session is open. `limits` are those of the gateway: utterance in ms, text in characters, chunk in ms."""

    session_id: str
    models: tuple[Model, ...]
    sample_rate_hz: int
    fps: Fraction
    blendshape_names: tuple[str, ...]
    width: int
    height: int
    portrait: str
    max_utterance_ms: int
    max_text_chars: int
    max_chunk_ms: int
    assignments: tuple[Assignment, ...] = ()


@dataclass(frozen=True)
class SpeechActivity:
    """The user began (`speaking`) or stopped to speak at `sample` of the input's clock."""

    speaking: bool
    sample: int


@dataclass(frozen=True)
class Word:
    """A recognised word, on the input's clock."""

    word: str
    start_sample: int
    end_sample: int
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """What the user said, as far as it is known; `stability` (0 to 1) tells how likely the text is to stay."""

    text: str
    is_final: bool
    stability: float
    words: tuple[Word, ...]


@dataclass(frozen=True)
class ReplyClause:
    """A piece of the reply's text, with its mood (`intensity` 0 to 1)."""

    index: int
    text: str
    emotion: Emotion
    intensity: float


@dataclass(frozen=True)
class Audio:
    """Audio of the reply, PCM_S16LE mono. If it starts before what came last, it replaces what came from there on."""

    start_sample: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Span:
    """A phoneme (IPA, empty for silence) or a word."""

    text: str
    start_sample: int
    end_sample: int


@dataclass(frozen=True)
class Phonemes:
    """Where the sounds and words of a clause lie."""

    clause_index: int
    start_sample: int
    end_sample: int
    phonemes: tuple[Span, ...]
    words: tuple[Span, ...]


@dataclass(frozen=True)
class FaceFrame:
    """ARKit weights (0 to 1, in the order of Started.blendshape_names) and the head: yaw, pitch, roll in degrees,
    shifts in picture widths, scale. `speaking` is false while the face idles."""

    start_sample: int
    speaking: bool
    weights: tuple[float, ...] = field(repr=False)
    head: tuple[float, float, float, float, float, float] = field(repr=False)
    engine_ms: float = 0.0


@dataclass(frozen=True)
class Video:
    """One H.264 access unit (Annex B). `speaking` is false while the face idles."""

    start_sample: int
    speaking: bool
    keyframe: bool
    render_ms: float
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Mp4:
    """More of the MP4 file: append it."""

    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Stage:
    """One stage of a turn's waterfall; `mesh_ms` of its duration is not the engine's."""

    name: str
    duration_ms: float
    mesh_ms: float


@dataclass(frozen=True)
class Speculation:
    """Replies of a live call begun before it was certain that the user had stopped, and speech made for nothing."""

    begun: int
    discarded: int
    discarded_audio_ms: float


@dataclass(frozen=True)
class TurnDone:
    """The turn is over. The reply lies from `start_sample` to `end_sample`; audio beyond that is void."""

    outcome: Outcome
    user_text: str
    reply_text: str
    stages: tuple[Stage, ...]
    first_audio_ms: float
    first_video_ms: float
    start_sample: int
    end_sample: int
    video_frames: int
    reply_tokens: int
    models: tuple[Model, ...]
    speculation: Speculation = Speculation(0, 0, 0.0)
    assignments: tuple[Assignment, ...] = ()
    longest_gap_ms: float = 0.0
    """The longest time for which the reply's next sound was due and not there."""
    turn_id: str = ""
    """For `Client.feedback`."""


@dataclass(frozen=True)
class Cut:
    """Nothing of this and older generations is heard or seen from a sample on; it may go on later, at another place."""

    at_sample: int
    may_resume: bool


class Floor(Enum):
    """What the face does; the values are those of talkmesh.conversation.v1.Floor."""

    IDLE = 1
    LISTENING = 2
    THINKING = 3
    SPEAKING = 4


@dataclass(frozen=True)
class FloorChange:
    """Of a live call."""

    floor: Floor


@dataclass(frozen=True)
class Problem:
    """Something went wrong in a turn of a live call, which goes on."""

    message: str


Event = (
    Started
    | SpeechActivity
    | Transcript
    | ReplyClause
    | Audio
    | Phonemes
    | FaceFrame
    | Video
    | Mp4
    | TurnDone
    | Cut
    | FloorChange
    | Problem
)


def from_proto(response: conversation_pb2.ConverseResponse) -> Event | None:
    """The event that a response carries; None for a kind that this version of the client does not know."""
    kind = response.WhichOneof("event")
    event = READERS[kind](getattr(response, kind)) if kind in READERS else None
    return replace(event, turn_id=response.turn_id) if isinstance(event, TurnDone) else event


def model(m: model_pb2.ServingModel) -> Model:
    return Model(m.service, m.model, m.engine, m.digest, m.slot, m.slot_generation)


def started(s: conversation_pb2.ConversationStarted) -> Started:
    return Started(
        session_id=s.session_id,
        models=tuple(map(model, s.models)),
        sample_rate_hz=s.sample_rate_hz,
        fps=Fraction(s.fps_numerator, s.fps_denominator),
        blendshape_names=tuple(s.blendshape_names),
        width=s.width,
        height=s.height,
        portrait=s.portrait,
        max_utterance_ms=s.limits.max_utterance_ms,
        max_text_chars=s.limits.max_text_chars,
        max_chunk_ms=s.limits.max_chunk_ms,
        assignments=tuple(map(assignment, s.assignments)),
    )


def assignment(a: conversation_pb2.Assignment) -> Assignment:
    return Assignment(a.flag, a.variant, a.reason)


def activity(a: asr_pb2.SpeechActivity) -> SpeechActivity:
    kinds = asr_pb2.SpeechActivity
    return SpeechActivity(a.kind in (kinds.KIND_SPEECH_STARTED, kinds.KIND_SPEECH_RESUMED), a.sample)


def transcript(t: asr_pb2.Transcript) -> Transcript:
    words = tuple(Word(w.word, w.start_sample, w.end_sample, w.confidence) for w in t.words)
    return Transcript(t.text, t.is_final, t.stability, words)


def clause(c: conversation_pb2.ReplyClause) -> ReplyClause:
    return ReplyClause(c.index, c.text, Emotion(c.expression.emotion or 1), c.expression.intensity)


def audio(a: audio_pb2.AudioChunk) -> Audio:
    return Audio(a.start_sample, a.data)


def phonemes(p: conversation_pb2.ClausePhonemes) -> Phonemes:
    def spans(found: list[tuple[str, speech_pb2.PhonemeSpan | speech_pb2.WordSpan]]) -> tuple[Span, ...]:
        return tuple(Span(text, span.start_sample, span.end_sample) for text, span in found)

    sounds = spans([(span.phoneme, span) for span in p.phonemes])
    words = spans([(span.word, span) for span in p.words])
    return Phonemes(p.clause_index, p.start_sample, p.end_sample, sounds, words)


def face_frame(f: animation_pb2.FaceFrame) -> FaceFrame:
    h = f.head
    return FaceFrame(
        f.start_sample, bool(f.turn_id), tuple(f.weights), (h.yaw, h.pitch, h.roll, h.x, h.y, h.scale), f.engine_ms
    )


def video(v: render_pb2.VideoFrame) -> Video:
    return Video(v.start_sample, bool(v.turn_id), v.keyframe, v.render_ms, v.data)


def mp4(m: conversation_pb2.Mp4Segment) -> Mp4:
    return Mp4(m.data)


def done(d: conversation_pb2.TurnDone) -> TurnDone:
    return TurnDone(
        outcome=Outcome(d.outcome),
        user_text=d.user_text,
        reply_text=d.reply_text,
        stages=tuple(Stage(s.name, s.duration_ms, s.mesh_ms) for s in d.waterfall.stages),
        first_audio_ms=d.waterfall.first_audio_ms,
        first_video_ms=d.waterfall.first_video_ms,
        longest_gap_ms=d.waterfall.longest_gap_ms,
        start_sample=d.start_sample,
        end_sample=d.end_sample,
        video_frames=d.video_frames,
        reply_tokens=d.reply_tokens,
        models=tuple(map(model, d.models)),
        speculation=Speculation(d.speculation.begun, d.speculation.discarded, d.speculation.discarded_audio_ms),
        assignments=tuple(map(assignment, d.assignments)),
    )


def cut(c: conversation_pb2.Cut) -> Cut:
    return Cut(c.at_sample, c.may_resume)


def floor(f: conversation_pb2.FloorChange) -> FloorChange:
    return FloorChange(Floor(f.floor))


def problem(p: conversation_pb2.Problem) -> Problem:
    return Problem(p.message)


READERS: dict[str, Callable[[Any], Event]] = {
    "started": started,
    "activity": activity,
    "transcript": transcript,
    "clause": clause,
    "audio": audio,
    "phonemes": phonemes,
    "face_frame": face_frame,
    "video": video,
    "mp4": mp4,
    "done": done,
    "cut": cut,
    "floor": floor,
    "problem": problem,
}
