"""Spans that tile the audio, and the audio that belongs to them."""

from collections.abc import Iterator

import numpy as np
import pytest

from services.tts.engine import PhonemeSpan, Samples
from services.tts.layout import Layout, cut_out, lay_out, pause_samples
from services.tts.pronunciation import Sound

RATE = 1000
"""A sample is a millisecond."""


def sound(phoneme: str, word: int) -> Sound:
    return Sound(phoneme, phoneme, 0, word)


WORDS = [sound("h", 0), sound("i", 0), Sound("", " "), sound("j", 1), sound("u", 1), Sound("", ".")]


def tiles(layout: Layout) -> bool:
    ends = [span.end for span in layout.phonemes]
    return [span.start for span in layout.phonemes] == [0, *ends[:-1]] and ends[-1] == layout.samples


def test_lead_is_trimmed_and_the_pause_is_what_the_mark_asks_for() -> None:
    pause = pause_samples(WORDS, RATE, 1.0)
    layout = lay_out(WORDS, [400, 450, 500, 520, 600, 700, 750, 780], ["Hi", "you"], pause, RATE)
    assert tiles(layout)
    assert layout.phonemes[0] == PhonemeSpan("", 0, 30)
    assert layout.phonemes[-1] == PhonemeSpan("", 330, 630)
    assert (layout.first, layout.last, layout.samples) == (370, 780, 630)


def test_the_time_of_a_seam_goes_to_both_neighbours() -> None:
    layout = lay_out(WORDS, [30, 50, 100, 140, 200, 300, 310, 320], ["Hi", "you"], 10, RATE)
    assert [(span.phoneme, span.start, span.end) for span in layout.phonemes] == [
        ("", 0, 30),
        ("h", 30, 50),
        ("i", 50, 120),
        ("j", 120, 200),
        ("u", 200, 300),
        ("", 300, 310),
    ]
    assert [(span.word, span.start, span.end) for span in layout.words] == [("Hi", 30, 120), ("you", 120, 300)]


@pytest.mark.parametrize(("pause_end", "silent"), [(150, True), (80, False)])
def test_an_inner_pause_is_silence_only_if_it_is_long(pause_end: int, silent: bool) -> None:
    sounds = [sound("h", 0), Sound("", ","), Sound("", " "), sound("j", 1)]
    layout = lay_out(sounds, [0, 50, 60, pause_end, 200, 200], ["a", "b"], 0, RATE)
    assert tiles(layout)
    assert (("", 50, pause_end) in [(span.phoneme, span.start, span.end) for span in layout.phonemes]) is silent


def test_pauses_by_mark_and_pace() -> None:
    def pause(mark: str, pace: float = 1.0) -> int:
        return pause_samples([sound("h", 0), *([Sound("", mark)] if mark else [])], RATE, pace)

    assert pause("") < pause(",") < pause(";") < pause(".") < pause("?")
    assert pause(".", 2.0) == pause(".") // 2


@pytest.mark.parametrize("piece", [1, 7, 100, 10_000])
def test_the_audio_is_the_same_however_it_comes(piece: int) -> None:
    audio = np.ones(1000, np.float32)
    layout = Layout(100, 900, 1100, (), ())

    def pieces() -> Iterator[Samples]:
        yield from (audio[at : at + piece] for at in range(0, 1000, piece))

    heard = np.concatenate(list(cut_out(pieces(), layout, RATE)))
    assert len(heard) == 1100
    assert heard[0] == 0
    assert (heard[5:795] == 1).all()
    assert (np.diff(heard[:6]) > 0).all()
    assert (np.diff(heard[794:800]) < 0).all()
    assert (heard[800:] == 0).all()
    assert audio.min() == 1


def test_no_more_of_the_audio_is_computed_than_is_heard() -> None:
    taken = []

    def pieces() -> Iterator[Samples]:
        for number in range(10):
            taken.append(number)
            yield np.zeros(100, np.float32)

    assert sum(map(len, cut_out(pieces(), Layout(0, 250, 250, (), ()), RATE))) == 250
    assert taken == [0, 1, 2]
