import numpy as np
import pytest

from services.asr.activity import Thresholds
from services.asr.engine import Activity
from services.asr.resampling import RATE_HZ
from services.asr.silero import WINDOW
from services.asr.utterance import Cut, Utterance
from services.asr.window import HARD_LIMIT, LEAD, SOFT_LIMIT, TAIL, AudioBuffer
from services.runtime.errors import InvalidInput

SECOND = RATE_HZ // WINDOW + 1
"""Windows in a second, rounded up."""


def heard(utterance: Utterance, probability: float, windows: int) -> list[Cut]:
    """Feed `windows` windows whose samples are their own positions."""
    cuts = []
    for _ in range(windows):
        start = utterance.heard_until
        cuts += utterance.append(np.arange(start, start + WINDOW, dtype=np.float32), [probability])[1]
    return cuts


@pytest.fixture
def utterance() -> Utterance:
    return Utterance(Thresholds(), 60_000)


def test_silence_is_forgotten_however_long(utterance: Utterance) -> None:
    heard(utterance, 0.0, 2_000)
    assert not utterance.window.has_speech
    assert utterance.heard_until - utterance.window.start <= LEAD + WINDOW


def test_a_snapshot_is_the_speech_with_a_little_around_it(utterance: Utterance) -> None:
    heard(utterance, 0.0, 100)
    heard(utterance, 0.9, 20)
    heard(utterance, 0.0, 20)
    snapshot = utterance.snapshot()
    assert snapshot.speech_start == 100 * WINDOW
    assert snapshot.start == 100 * WINDOW - LEAD
    assert snapshot.audio[0] == snapshot.start
    assert len(snapshot.audio) == LEAD + 20 * WINDOW + TAIL
    assert snapshot.heard_until == 140 * WINDOW


def test_the_rest_of_a_last_word_is_no_speech(utterance: Utterance) -> None:
    heard(utterance, 0.9, 20)
    utterance.begin_next()
    heard(utterance, 0.9, 2)
    heard(utterance, 0.0, 50)
    assert not utterance.window.has_speech
    heard(utterance, 0.9, 4)
    assert utterance.snapshot().speech_start == 72 * WINDOW


def test_going_on_after_a_flush_is_a_new_utterance_without_a_new_start(utterance: Utterance) -> None:
    heard(utterance, 0.9, 20)
    utterance.begin_next()
    changes = utterance.append(np.zeros(10 * WINDOW, np.float32), [0.9] * 10)[0]
    assert changes == []
    assert utterance.snapshot().speech_start == 20 * WINDOW


def test_a_long_utterance_is_cut_in_its_pause(utterance: Utterance) -> None:
    heard(utterance, 0.9, SOFT_LIMIT // WINDOW + 1)
    end = utterance.heard_until
    (cut,) = heard(utterance, 0.0, 15)
    assert cut.snapshot is not None
    assert (cut.in_pause, cut.speech_end, cut.snapshot.start) == (True, end, 0)
    assert end < cut.snapshot.heard_until < utterance.heard_until
    assert not utterance.window.has_speech
    heard(utterance, 0.9, 10)
    assert utterance.snapshot().start > end


def test_a_pause_in_a_shorter_one_is_no_cut(utterance: Utterance) -> None:
    assert heard(utterance, 0.9, 5 * SECOND) + heard(utterance, 0.0, SECOND) + heard(utterance, 0.9, SECOND) == []


def test_speech_without_a_pause_is_cut_where_it_is_least_sure(utterance: Utterance) -> None:
    quiet = HARD_LIMIT // WINDOW - 60
    assert heard(utterance, 0.9, quiet) + heard(utterance, 0.6, 1) == []
    (cut,) = heard(utterance, 0.9, 60)
    assert cut.snapshot is not None
    assert cut.snapshot.heard_until == quiet * WINDOW + WINDOW // 2
    assert not cut.in_pause
    following = utterance.snapshot()
    assert following.start == cut.snapshot.heard_until
    assert following.audio[0] == following.start
    assert len(cut.snapshot.audio) <= 30 * RATE_HZ


def test_windows_lose_no_audio_between_them(utterance: Utterance) -> None:
    cuts = heard(utterance, 0.9, 1_700)
    runs = [cut.snapshot for cut in cuts if cut.snapshot] + [utterance.snapshot()]
    assert len(runs) == 3
    audio = np.concatenate([run.audio for run in runs])
    np.testing.assert_array_equal(audio, np.arange(1_700 * WINDOW, dtype=np.float32))


def test_too_long_an_utterance_names_the_limit() -> None:
    utterance = Utterance(Thresholds(), 2_000)
    heard(utterance, 0.0, 10 * SECOND)
    with pytest.raises(InvalidInput, match=r"max_utterance_ms \(2000\)"):
        heard(utterance, 0.9, 3 * SECOND)


def test_the_limit_is_each_utterances_own() -> None:
    utterance = Utterance(Thresholds(), 2_000)
    for _ in range(5):
        heard(utterance, 0.9, SECOND)
        utterance.begin_next()
    assert utterance.detector.speaking


def test_changes_come_with_the_audio_that_proves_them(utterance: Utterance) -> None:
    changes = utterance.append(np.zeros(40 * WINDOW, np.float32), [0.0] * 5 + [0.9] * 15 + [0.0] * 20)[0]
    assert [(change.kind, change.position) for change in changes] == [
        (Activity.SPEECH_STARTED, 5 * WINDOW),
        (Activity.SPEECH_ENDED, 20 * WINDOW),
    ]


def test_a_buffer_gives_back_what_lies_between_two_positions() -> None:
    buffer = AudioBuffer()
    for at in range(0, 100, 7):
        buffer.append(np.arange(at, min(100, at + 7), dtype=np.float32))
    buffer.drop_before(40)
    buffer.drop_before(20)
    assert (buffer.start, buffer.end) == (40, 100)
    assert buffer.between(30, 43).tolist() == [40, 41, 42]
    assert buffer.between(95, 500).tolist() == [95, 96, 97, 98, 99]


@pytest.fixture
def cutting() -> Utterance:
    return Utterance(Thresholds(), 60_000, cut_long=True)


def test_a_monologue_ends_at_a_pause_before_it_is_too_long(cutting: Utterance) -> None:
    heard(cutting, 0.9, 25 * SECOND)
    heard(cutting, 0.1, 12)
    assert not cutting.has_to_end
    heard(cutting, 0.9, 10 * SECOND)
    assert not cutting.has_to_end
    heard(cutting, 0.1, 12)
    assert cutting.has_to_end
    cutting.begin_next()
    assert not cutting.has_to_end


def test_a_monologue_without_a_pause_ends_with_a_window(cutting: Utterance) -> None:
    ends = []
    for _ in range(200):
        for cut in heard(cutting, 0.9, SECOND):
            assert not cut.in_pause
            ends.append(cut.ends_utterance)
            if cut.ends_utterance:
                cutting.begin_next_at(cut)
        assert not cutting.has_to_end
    assert True in ends


@pytest.mark.parametrize("limit_ms", [1_000, 5_000, 20_000, 40_000])
def test_no_utterance_is_longer_than_the_limit(limit_ms: int) -> None:
    utterance = Utterance(Thresholds(), limit_ms, cut_long=True)
    began = 0
    for _ in range(90 * SECOND):
        for cut in heard(utterance, 0.9, 1):
            if cut.ends_utterance:
                assert 0 < cut.at - began <= limit_ms * RATE_HZ // 1000 + WINDOW
                utterance.begin_next_at(cut)
                began = cut.at
        assert not utterance.has_to_end
    assert began > 0


def test_silence_behind_a_word_ends_an_utterance_that_is_never_flushed(cutting: Utterance) -> None:
    heard(cutting, 0.9, 10)
    ended = 0
    for _ in range(100 * SECOND):
        heard(cutting, 0.0, 1)
        if cutting.has_to_end:
            cutting.begin_next()
            ended += 1
    assert ended == 1
