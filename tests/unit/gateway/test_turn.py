"""The turn's state machine, stepped by hand: no loop, no clock, no I/O."""

from fractions import Fraction

import pytest

from gateway import turn
from gateway.clock import Clock
from gateway.emotion import Expression, express
from gateway.turn import Outcome, Span, State, Turn
from gateway.waterfall import Waterfall

RATE = 24000
FRAME = 960
PLAIN = Expression()


def make(start: int = 0, shows: bool = True, speaks: bool = True, window: int = 4, tail: int = 2 * FRAME) -> Turn:
    return Turn(Clock(RATE, Fraction(25)), start, tail, window, speaks, shows, express)


def planned(index: int, start: int, end: int) -> turn.ClausePlanned:
    spans = (Span("h", start, start + 100), Span("ə", start + 100, end))
    return turn.ClausePlanned(index, start, spans, (Span("word", start, end),), PLAIN, 7.0)


def audio(start: int, samples: int) -> turn.AudioCame:
    return turn.AudioCame(start, bytes(2 * samples))


def speaking(machine: Turn) -> Turn:
    """A turn that speaks one clause of 10 frames."""
    machine.step(turn.TextGiven("hi"), 0.0)
    machine.step(turn.Delta("Hello there, my friend."), 0.1)
    machine.step(turn.ReplyWritten(5), 0.2)
    machine.step(planned(0, 0, 10 * FRAME), 0.3)
    return machine


def show(machine: Turn, frame: int, at: float = 1.0) -> list[turn.Command]:
    return machine.step(turn.FrameShown(frame * FRAME, True, 5.0), at)


def kinds(commands: list[turn.Command]) -> list[str]:
    return [type(command).__name__ for command in commands]


def test_typed_question_goes_straight_to_the_llm() -> None:
    machine = make()
    assert machine.step(turn.TextGiven("hi"), 0.0) == [turn.Generate("hi")]
    assert machine.state is State.THINKING


def test_spoken_question_waits_for_its_transcript() -> None:
    machine = make()
    assert machine.step(turn.EndOfTurn(), 1.0) == [turn.AwaitTranscript()]
    assert machine.step(turn.Heard("what is it", 80.0), 1.1) == [turn.Generate("what is it")]
    assert machine.user_text == "what is it"
    assert machine.waterfall.since_begin_ms("asr_final") == pytest.approx(100)


def test_nothing_heard_ends_the_turn_without_a_reply() -> None:
    machine = make(start=960)
    machine.step(turn.EndOfTurn(), 0.0)
    assert machine.step(turn.Heard(""), 0.1) == [turn.Finish(Outcome.NOTHING_HEARD, 960)]


def test_clauses_are_said_as_soon_as_they_are_complete() -> None:
    machine = make()
    machine.step(turn.TextGiven("hi"), 0.0)
    commands: list[turn.Command] = []
    for word in ["Hello", "there,", "my", "friend.", "How", "are", "you"]:
        commands += machine.step(turn.Delta(word + " "), 0.1)
    said = [command for command in commands if isinstance(command, turn.Say)]
    assert [clause.index for clause in said] == list(range(len(said)))
    assert said[0].text.startswith("Hello there")
    rest = machine.step(turn.ReplyWritten(9), 0.2)
    assert kinds(rest) == ["Say", "CloseSpeech"]
    assert machine.reply_text == "Hello there, my friend. How are you"


def test_face_gets_the_clause_and_only_a_window_of_frames() -> None:
    machine = make(window=4)
    machine.step(turn.TextGiven("hi"), 0.0)
    machine.step(turn.Delta("Hello there, my friend. So"), 0.1)
    assert kinds(machine.step(planned(0, 0, 10 * FRAME), 0.3)) == ["MoveFace"]
    commands = machine.step(audio(0, 8 * FRAME), 0.3)
    assert kinds(commands) == ["ShowPhonemes", "Play", "Advance"]
    assert commands[-1] == turn.Advance(4 * FRAME)
    assert show(machine, 0) == [turn.Advance(5 * FRAME)]


def test_face_waits_for_the_audio_that_it_moves_to() -> None:
    machine = speaking(make(window=100))
    assert machine.step(audio(0, FRAME + 1), 0.4)[-1] == turn.Advance(2 * FRAME)
    assert machine.step(audio(FRAME + 1, 3 * FRAME), 0.4)[-1] == turn.Advance(5 * FRAME)


def test_window_stops_at_what_is_known_of_the_speech() -> None:
    machine = speaking(make(window=100))
    assert machine.step(audio(0, 12 * FRAME), 0.4)[-1] == turn.Advance(10 * FRAME)
    assert show(machine, 0) == []


def test_positions_are_moved_to_where_the_reply_begins() -> None:
    machine = make(start=5 * FRAME)
    machine.step(turn.TextGiven("hi"), 0.0)
    machine.step(turn.Delta("Hello there, my friend. So"), 0.1)
    (face,) = machine.step(planned(0, 0, 10 * FRAME), 0.3)
    assert isinstance(face, turn.MoveFace)
    assert (face.start, face.end) == (5 * FRAME, 15 * FRAME)
    phonemes, play, _ = machine.step(audio(0, 480), 0.4)
    assert phonemes == turn.ShowPhonemes(0, 5 * FRAME, 5 * FRAME + 100, (Span("h", 5 * FRAME, 5 * FRAME + 100),), ())
    assert play == turn.Play(5 * FRAME, bytes(960))


def test_turn_ends_on_a_frame_after_tail_and_last_picture() -> None:
    machine = speaking(make(window=100))
    machine.step(audio(0, 10 * FRAME - 100), 0.4)
    told, *commands = machine.step(turn.SpeechEnded(), 0.5)
    end = 12 * FRAME
    assert isinstance(told, turn.ShowPhonemes)
    assert told.end == 10 * FRAME
    assert commands == [turn.Play(10 * FRAME - 100, bytes(2 * (end - 10 * FRAME + 100))), turn.Advance(end)]
    for frame in range(11):
        assert not any(isinstance(command, turn.Finish) for command in show(machine, frame))
    assert show(machine, 11) == [turn.Finish(Outcome.COMPLETED, end)]
    assert machine.state is State.FINISHED


def test_voice_without_phonemes_moves_the_face_by_its_audio() -> None:
    machine = make()
    machine.step(turn.TextGiven("hi"), 0.0)
    machine.step(turn.Delta("Hello there, my friend. So"), 0.1)
    assert machine.step(turn.ClausePlanned(0, 0, (), (), PLAIN), 0.2) == []
    assert kinds(machine.step(audio(0, 2 * FRAME), 0.3)) == ["Play", "MoveFaceByAudio", "Advance"]


def test_lost_voice_leaves_nothing_of_its_plan_behind() -> None:
    machine = make(window=100)
    machine.step(turn.TextGiven("hi"), 0.0)
    machine.step(turn.Delta("One two three four, five. So"), 0.1)
    words = tuple(Span(word, i * 3 * FRAME, (i + 1) * 3 * FRAME) for i, word in enumerate(["One", "two", "three"]))
    machine.step(turn.ClausePlanned(0, 0, words, words, PLAIN), 0.2)
    machine.step(audio(0, 4 * FRAME), 0.3)
    told, rest = machine.step(turn.SpeechCut(4 * FRAME), 0.4)
    assert told == turn.ShowPhonemes(0, 3 * FRAME, 4 * FRAME, (Span("two", 3 * FRAME, 4 * FRAME),), ())
    assert rest == turn.MoveFace(4 * FRAME, 9 * FRAME, (Span("", 4 * FRAME, 9 * FRAME),), PLAIN)
    again = tuple(Span(word, (4 + i) * FRAME, (5 + i) * FRAME) for i, word in enumerate(["two", "three"]))
    assert kinds(machine.step(turn.ClausePlanned(0, 4 * FRAME, again, again, PLAIN), 0.5)) == ["MoveFace"]
    shown, *_ = machine.step(audio(4 * FRAME, 2 * FRAME), 0.6)
    assert shown == turn.ShowPhonemes(0, 4 * FRAME, 6 * FRAME, again, again)
    machine.step(turn.Interrupted(), 0.7)
    assert machine.reply_text == "One two three"


def test_lost_voice_between_clauses_changes_nothing() -> None:
    machine = speaking(make(window=100))
    machine.step(audio(0, 10 * FRAME), 0.4)
    assert machine.step(turn.SpeechCut(10 * FRAME), 0.5) == []


def test_without_a_face_the_turn_ends_with_its_audio() -> None:
    machine = make(shows=False)
    machine.step(turn.TextGiven("hi"), 0.0)
    machine.step(turn.Delta("Hello there, my friend."), 0.1)
    machine.step(turn.ReplyWritten(5), 0.2)
    machine.step(audio(0, 3 * FRAME), 0.3)
    assert kinds(machine.step(turn.SpeechEnded(), 0.4)) == ["Play", "Finish"]


def test_without_a_voice_the_turn_ends_with_its_text() -> None:
    machine = make(shows=False, speaks=False)
    machine.step(turn.TextGiven("hi"), 0.0)
    machine.step(turn.Delta("Hello there, my friend."), 0.1)
    assert kinds(machine.step(turn.ReplyWritten(5), 0.2)) == ["Say", "Finish"]


def test_empty_reply_completes() -> None:
    machine = make()
    machine.step(turn.TextGiven("hi"), 0.0)
    assert machine.step(turn.ReplyWritten(0), 0.2) == [turn.Finish(Outcome.COMPLETED, 0)]


def test_interruption_cuts_speech_and_face_at_one_sample() -> None:
    machine = speaking(make(window=4))
    machine.step(audio(0, 10 * FRAME), 0.4)
    show(machine, 0)
    cut, silence = machine.step(turn.Interrupted(), 0.5)
    assert cut == turn.CutSpeech(5 * FRAME)
    assert silence == turn.Play(5 * FRAME, bytes(2 * 2 * FRAME))
    commands: list[turn.Command] = []
    for frame in range(1, 7):
        commands += show(machine, frame)
    assert commands[-1] == turn.Finish(Outcome.INTERRUPTED, 7 * FRAME)


def test_interrupted_reply_keeps_only_the_words_heard() -> None:
    machine = make(window=4)
    machine.step(turn.TextGiven("hi"), 0.0)
    machine.step(turn.Delta("One two three four, five. So"), 0.1)
    words = tuple(Span(word, i * 3 * FRAME, (i + 1) * 3 * FRAME) for i, word in enumerate(["One", "two", "three"]))
    machine.step(turn.ClausePlanned(0, 0, (Span("w", 0, 9 * FRAME),), words, PLAIN), 0.2)
    machine.step(audio(0, 9 * FRAME), 0.3)
    machine.step(turn.Interrupted(), 0.4)
    assert machine.reply_text == "One"


@pytest.mark.parametrize("state", ["listening", "thinking"])
def test_interruption_before_speech_finishes_at_once(state: str) -> None:
    machine = make()
    if state == "thinking":
        machine.step(turn.TextGiven("hi"), 0.0)
    assert machine.step(turn.Interrupted(), 0.1) == [turn.Finish(Outcome.INTERRUPTED, 0)]


def test_what_was_overtaken_is_dropped() -> None:
    machine = speaking(make(window=4))
    machine.step(turn.Interrupted(), 0.5)
    assert machine.step(turn.Delta("more"), 0.6) == []
    assert machine.step(audio(0, 10), 0.6) == []
    assert machine.step(turn.SpeechEnded(), 0.6) == []


def test_waterfall_tiles_the_interval_to_the_first_picture() -> None:
    machine = make()
    machine.step(turn.EndOfTurn(), 10.0)
    machine.step(turn.Heard("hi", 90.0), 10.1)
    machine.step(turn.Delta("Hello there, ", 60.0), 10.2)
    machine.step(turn.Delta("my friend. So", 90.0), 10.25)
    machine.step(planned(0, 0, 10 * FRAME), 10.3)
    machine.step(audio(0, 960), 10.31)
    machine.step(turn.FaceMade(0, True, 0.5), 10.32)
    machine.step(turn.FrameShown(0, True, 15.0), 10.35)
    waterfall = machine.waterfall.proto()
    assert sum(stage.duration_ms for stage in waterfall.stages) == pytest.approx(350)
    assert waterfall.first_video_ms == pytest.approx(350)
    assert waterfall.first_audio_ms == pytest.approx(310)
    by_name = {stage.name: stage for stage in waterfall.stages}
    assert by_name["asr_final"].mesh_ms == pytest.approx(10)
    assert by_name["first_video_frame"].mesh_ms == pytest.approx(15)


def test_the_longest_gap_is_what_a_listener_would_wait() -> None:
    waterfall = Waterfall()
    for at, duration in ((10.0, 0.5), (10.1, 0.5), (11.2, 0.4), (11.7, 0.1)):
        waterfall.sound(at, duration)
    assert waterfall.proto().longest_gap_ms == pytest.approx(200), "all before it was heard at 11.0"
