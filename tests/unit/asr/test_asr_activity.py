from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np
import pytest

from services.asr.activity import Change, SpeechDetector, Thresholds
from services.asr.engine import Activity, Samples
from services.asr.silero import WINDOW, SpeechProbabilities, open_session
from services.runtime.errors import LoadFailed

STARTED, ENDED = Activity.SPEECH_STARTED, Activity.SPEECH_ENDED
PAUSED, RESUMED = Activity.SPEECH_PAUSED, Activity.SPEECH_RESUMED
PAUSE = 2 * WINDOW


@pytest.fixture(scope="module")
def session() -> Any:
    return open_session(next((Path(faster_whisper.__file__).parent / "assets").glob("silero_vad*.onnx")))


def judged(probabilities: list[float], **thresholds: float) -> list[Change]:
    # Any of the thresholds, of two types.
    detector = SpeechDetector(Thresholds(**thresholds), WINDOW)  # type: ignore[arg-type]
    return [change for probability in probabilities if (change := detector.push(probability))]


def test_speech_is_told_where_it_began_and_ended() -> None:
    probabilities = [0.1] * 3 + [0.9] * 5 + [0.1] * 12
    assert judged(probabilities) == [Change(STARTED, 3 * WINDOW), Change(ENDED, 8 * WINDOW)]


def test_a_click_is_no_speech() -> None:
    assert judged([0.1, 0.9, 0.1, 0.1, 0.9, 0.2] * 5) == []


def test_a_pause_is_told_before_the_end_and_where_the_voice_was_last_heard() -> None:
    probabilities = [0.9] * 5 + [0.1] * 12
    assert judged(probabilities, pause=PAUSE) == [
        Change(STARTED, 0),
        Change(PAUSED, 5 * WINDOW),
        Change(ENDED, 5 * WINDOW),
    ]


def test_going_on_is_told_with_the_first_voice() -> None:
    probabilities = [0.9] * 5 + [0.1] * 4 + [0.9]
    changes = judged(probabilities, pause=PAUSE)
    assert changes == [Change(STARTED, 0), Change(PAUSED, 5 * WINDOW), Change(RESUMED, 9 * WINDOW)]
    assert judged([*probabilities, 0.9, 0.1, 0.1], pause=PAUSE) == [*changes, Change(PAUSED, 11 * WINDOW)]


def test_a_click_in_a_pause_does_not_make_it_shorter() -> None:
    changes = judged([0.9] * 5 + [0.1] * 4 + [0.9] + [0.1] * 7, pause=PAUSE)
    assert changes[2:] == [Change(RESUMED, 9 * WINDOW), Change(PAUSED, 5 * WINDOW), Change(ENDED, 5 * WINDOW)]


def test_gaps_in_words_are_no_pauses() -> None:
    assert judged([0.9] * 5 + [0.1] + [0.9] * 5 + [0.1] + [0.9] * 3, pause=PAUSE) == [Change(STARTED, 0)]


def test_what_is_only_doubtful_neither_starts_nor_ends_speech() -> None:
    assert judged([0.45] * 50) == []
    assert judged([0.9] * 4 + [0.45] * 50) == [Change(STARTED, 0)]


def test_a_short_pause_does_not_end_speech() -> None:
    assert judged(([0.9] * 5 + [0.1] * 8) * 4) == [Change(STARTED, 0)]


def test_after_a_doubt_only_certainty_takes_speech_up_again() -> None:
    assert judged([0.9] * 4 + [0.1] + [0.45] * 20)[-1] == Change(ENDED, 4 * WINDOW)


def test_the_silence_that_ends_speech_can_be_chosen() -> None:
    probabilities = [0.9] * 4 + [0.1] * 4 + [0.9] * 4
    assert [change.kind for change in judged(probabilities, end_silence=3 * WINDOW)] == [STARTED, ENDED, STARTED]


def test_voice_is_known_up_to_the_last_word() -> None:
    detector = SpeechDetector(Thresholds(), WINDOW)
    for probability in [0.9] * 6 + [0.1] * 3:
        detector.push(probability)
    assert (detector.voiced_until, detector.silence) == (6 * WINDOW, 3 * WINDOW)


def test_a_stream_hears_what_the_whole_recording_says(session: Any, sentences: list[Any]) -> None:
    audio: Samples = sentences[0].audio
    at_once = SpeechProbabilities(session).push(audio)
    stream = SpeechProbabilities(session)
    in_pieces = [value for at in range(0, len(audio), 333) for value in stream.push(audio[at : at + 333])]
    assert len(at_once) == len(audio) // WINDOW
    assert in_pieces == at_once


def test_real_speech_between_silences(session: Any, sentences: list[Any]) -> None:
    silence = np.zeros(16_000, np.float32)
    audio = np.concatenate([silence, sentences[1].audio, silence])
    probabilities = SpeechProbabilities(session).push(audio)
    started, ended = judged(probabilities)
    assert (started.kind, ended.kind) == (STARTED, ENDED)
    assert 16_000 <= started.position < 16_000 + 8_000
    assert len(audio) - 16_000 - 11_000 < ended.position <= len(audio) - 16_000 + WINDOW


@pytest.mark.parametrize("kind", ["zeros", "noise", "hum"])
def test_no_speech_in_what_is_none(session: Any, kind: str) -> None:
    time = np.arange(5 * 16_000) / 16_000
    audio = {
        "zeros": np.zeros_like(time),
        "noise": np.random.default_rng(7).normal(0, 0.05, len(time)),
        "hum": 0.3 * np.sin(2 * np.pi * 50 * time),
    }[kind].astype(np.float32)
    assert judged(SpeechProbabilities(session).push(audio)) == []


def test_a_missing_model_is_a_load_failure(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"silero\.onnx"):
        open_session(tmp_path / "silero.onnx")
