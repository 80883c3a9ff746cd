"""When a turn ends, on a clock of samples that stands still between what is told."""

import pytest

from gateway.live.completeness import Completeness, completeness
from gateway.live.endpointing import Endpointing, PushToTalk, Semantic, Silence, Verdict, Waits

RATE_HZ = 16_000
MS = RATE_HZ // 1000
WAITS = Waits()


def semantic() -> Semantic:
    return Semantic(RATE_HZ, WAITS)


def test_nothing_happens_before_anybody_speaks() -> None:
    strategies: list[Endpointing] = [Silence(RATE_HZ), semantic(), PushToTalk()]
    for strategy in strategies:
        strategy.begin_turn()
        strategy.paused(100)
        assert strategy.verdict().commit_at is None


def test_silence_of_one_length_ends_a_turn() -> None:
    silence = Silence(RATE_HZ, wait_ms=500)
    silence.voiced(1_000)
    assert silence.verdict().commit_at is None
    silence.paused(20_000)
    assert silence.verdict() == Verdict(20_000 + 500 * MS, False, "silence")


def test_a_turn_may_pause_as_often_as_it_likes() -> None:
    silence = Silence(RATE_HZ, wait_ms=500)
    for second in range(1, 9, 2):
        silence.voiced(second * RATE_HZ)
        assert silence.verdict().commit_at is None
        silence.paused((second + 1) * RATE_HZ)
        assert silence.verdict().commit_at == (second + 1) * RATE_HZ + 500 * MS


def test_the_end_of_speech_told_again_moves_nothing() -> None:
    strategy = semantic()
    strategy.voiced(0)
    strategy.paused(16_000)
    strategy.heard("What is your name?", 0.9, 17_536)
    strategy.predicted(0.97, 17_536)
    before = strategy.verdict()
    strategy.paused(16_000)
    assert strategy.verdict() == before


def pause(strategy: Semantic, text: str, complete: float | None = None, language: str = "en") -> Verdict:
    """The verdict on a turn which stops at 1 s with this text."""
    strategy.voiced(0)
    strategy.paused(RATE_HZ)
    strategy.heard(text, 0.95, RATE_HZ + 96 * MS, language)
    if complete is not None:
        strategy.predicted(complete, RATE_HZ + 96 * MS)
    return strategy.verdict()


def wait_ms(verdict: Verdict) -> int:
    assert verdict.commit_at is not None
    return (verdict.commit_at - RATE_HZ) // MS


def test_a_complete_sentence_waits_least_and_an_open_one_longest() -> None:
    complete = wait_ms(pause(semantic(), "What is the capital of France?", 0.97))
    doubtful = wait_ms(pause(semantic(), "What is the capital of France?", 0.5))
    unfinished = wait_ms(pause(semantic(), "What is the capital of", 0.05))
    assert complete < doubtful < unfinished
    assert complete <= 500
    assert unfinished <= 1_200


def test_an_open_sentence_is_not_worth_a_reply_yet() -> None:
    unfinished = pause(semantic(), "I would like to know whether", 0.9)
    assert not unfinished.speculate
    assert unfinished.speculate_at == RATE_HZ + WAITS.open_prepared_ms * MS, "but it may be all there is"
    assert unfinished.commit_at and unfinished.commit_at > unfinished.speculate_at
    assert pause(semantic(), "What is the capital of France?").speculate


def test_before_the_text_is_there_the_longest_silence_holds() -> None:
    strategy = semantic()
    strategy.voiced(0)
    strategy.heard("What is", 0.4, 8_000)
    strategy.paused(RATE_HZ)
    assert not strategy.verdict().speculate
    assert wait_ms(strategy.verdict()) == WAITS.longest_ms


def test_what_was_said_before_a_pause_counts_no_more_after_it() -> None:
    strategy = semantic()
    pause(strategy, "Yes.", 0.99)
    strategy.voiced(RATE_HZ + 200 * MS)
    assert strategy.verdict() == Verdict(None, False, "speaking")
    strategy.paused(2 * RATE_HZ)
    assert wait_ms(strategy.verdict()) - 1_000 == WAITS.longest_ms


def test_a_prediction_about_an_earlier_pause_is_ignored() -> None:
    strategy = semantic()
    strategy.voiced(0)
    strategy.paused(RATE_HZ)
    strategy.voiced(RATE_HZ + 300 * MS)
    strategy.paused(2 * RATE_HZ)
    strategy.heard("What is your name?", 0.9, 2 * RATE_HZ + 96 * MS)
    strategy.predicted(0.99, RATE_HZ + 96 * MS)
    assert wait_ms(strategy.verdict()) - 1_000 == WAITS.longest_ms
    strategy.predicted(0.99, 2 * RATE_HZ + 96 * MS)
    assert wait_ms(strategy.verdict()) - 1_000 == WAITS.steps[0][1]


def test_the_less_sure_of_two_predictions_counts() -> None:
    strategy = semantic()
    assert wait_ms(pause(strategy, "What is your name?", 0.99)) == WAITS.steps[0][1]
    strategy.predicted(0.2, RATE_HZ + 192 * MS)
    unsure = strategy.verdict()
    strategy.predicted(0.99, RATE_HZ + 400 * MS)
    assert strategy.verdict() == unsure
    assert wait_ms(unsure) == WAITS.longest_ms


def test_without_a_turn_model_the_text_decides() -> None:
    deaf, waiting = Semantic(RATE_HZ, WAITS, listening=False), semantic()
    assert wait_ms(pause(deaf, "What is your name?")) < wait_ms(pause(waiting, "What is your name?"))
    assert wait_ms(pause(Semantic(RATE_HZ, WAITS, listening=False), "What is your")) > WAITS.steps[-1][1]


def test_a_click_in_a_pause_changes_nothing_once_it_is_taken_back() -> None:
    strategy = semantic()
    before = pause(strategy, "What is your name?", 0.97)
    strategy.voiced(RATE_HZ + 300 * MS)
    assert strategy.verdict().commit_at is None
    strategy.paused(RATE_HZ)
    assert strategy.verdict() == before


def test_a_stable_text_from_before_the_last_words_does_not_count() -> None:
    strategy = semantic()
    strategy.voiced(0)
    strategy.heard("What is your name?", 1.0, RATE_HZ // 2)
    strategy.paused(RATE_HZ)
    strategy.predicted(0.99, RATE_HZ + 96 * MS)
    assert strategy.verdict().reason == "unknown"
    assert not strategy.verdict().speculate


def test_a_pause_told_late_does_not_undo_speech_that_came_after_it() -> None:
    strategy = semantic()
    strategy.voiced(0)
    strategy.paused(RATE_HZ)
    strategy.voiced(RATE_HZ // 2)
    assert strategy.verdict().commit_at is not None


def test_a_new_turn_knows_nothing_of_the_one_before() -> None:
    strategy = semantic()
    pause(strategy, "Yes.", 0.99)
    strategy.begin_turn()
    assert strategy.verdict() == Verdict(None, False, "nothing heard")


def test_push_to_talk_ends_only_when_it_is_said() -> None:
    strategy = PushToTalk()
    strategy.voiced(0)
    strategy.paused(RATE_HZ)
    strategy.heard("Hello.", 0.95, 2 * RATE_HZ)
    assert strategy.verdict() == Verdict(None, True, "pause")
    strategy.released(5 * RATE_HZ)
    assert strategy.verdict() == Verdict(5 * RATE_HZ, True, "released")
    strategy.begin_turn()
    assert strategy.verdict().commit_at is None


COMPLETE, DOUBTFUL, OPEN = Completeness.COMPLETE, Completeness.DOUBTFUL, Completeness.OPEN


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("What is your name?", "en", COMPLETE),
        ("Yes.", "en", COMPLETE),
        ("Why?", "en", COMPLETE),
        ("What are you looking for?", "en", COMPLETE),
        ("How old are you? My name is Ann.", "en", COMPLETE),
        ("what is your name", "en", DOUBTFUL),
        ("What is.", "en", OPEN),
        ("I was there because", "en", OPEN),
        ("Tell me about the.", "en", OPEN),
        ("I went to the shop,", "en", OPEN),
        ("Well...", "en", OPEN),
        ("It is cold. And", "en", OPEN),
        ("If you know your party's extension.", "en", OPEN),
        ("If you know it, dial.", "en", COMPLETE),
        ("你叫什么名字？", "zh", COMPLETE),
        ("你喜欢音乐吗", "zh", COMPLETE),
        ("我想去北京，", "zh", OPEN),
        ("因为", "zh", OPEN),
        ("我今天买的", "zh", OPEN),
        ("今天天气很好", "zh", DOUBTFUL),
        ("今天天气很好。", "zh", COMPLETE),
        ("元気ですか", "ja", COMPLETE),
        ("東京に行って", "ja", OPEN),
        ("Wie heißt du?", "de", COMPLETE),
        ("Ich möchte", "de", DOUBTFUL),
        ("", "en", DOUBTFUL),
    ],
)
def test_how_finished_a_text_sounds(text: str, language: str, expected: Completeness) -> None:
    assert completeness(text, language) is expected
