"""From the durations that a model gives its symbols to spans that tile the audio, trimmed at both ends."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.tts.engine import PhonemeSpan, Samples, WordSpan
from services.tts.phonemes import SILENCE
from services.tts.pronunciation import Sound

LEAD_MS = 30
"""Silence kept before the first sound."""
SHORTEST_PAUSE_MS = 60
"""An inner pause that is shorter is no silence: its time goes to its neighbours."""
PAUSE_MS = {",": 120, ";": 200, ":": 200, "—": 200, ".": 300, "!": 300, "?": 350, "…": 350}
"""Silence after the last sound, by the mark that ends it, at pace 1."""
NO_MARK_PAUSE_MS = 40
FADE_MS = 5


@dataclass(frozen=True)
class Layout:
    """Which part of a model's audio is kept, how much silence follows it, and what is heard when."""

    first: int
    """The first sample kept."""
    last: int
    """The end of what is kept."""
    samples: int
    """Length of what is heard: `last - first` and the silence after it."""
    phonemes: Sequence[PhonemeSpan]
    words: Sequence[WordSpan]


def pause_samples(sounds: Sequence[Sound], rate_hz: int, pace: float) -> int:
    """The silence that belongs after these sounds."""
    mark = sounds[-1].letters if sounds[-1].is_pause else ""
    return round(PAUSE_MS.get(mark, NO_MARK_PAUSE_MS) * rate_hz / 1000 / pace)


def lay_out(sounds: Sequence[Sound], ends: Sequence[int], words: Sequence[str], pause: int, rate_hz: int) -> Layout:
    """Place `sounds` in the audio of a model.

    `ends` are the rising ends, in samples, of the silence before the first sound, of each sound, and of the silence after
    the last: two more than there are sounds, the last being the audio's length. `words` are the words as written.
    """
    starts, stops = list(ends[:-2]), list(ends[1:-1])
    last_sound = max(index for index, sound in enumerate(sounds) if sound.phoneme)
    absorb(sounds, starts, stops, SHORTEST_PAUSE_MS * rate_hz // 1000)
    begin = starts[0]
    first = max(0, begin - LEAD_MS * rate_hz // 1000)
    end = stops[last_sound]
    samples = end - first + pause
    spans = [PhonemeSpan(SILENCE, 0, begin - first)]
    for sound, start, stop in zip(sounds[: last_sound + 1], starts, stops, strict=False):
        if sound.phoneme:
            spans.append(PhonemeSpan(sound.phoneme, start - first, stop - first, sound.stress))
        elif stop > start:
            spans.append(PhonemeSpan(SILENCE, start - first, stop - first))
    spans.append(PhonemeSpan(SILENCE, end - first, samples))
    last = min(ends[-1], end + pause)
    placed = [span for span in spans if span.phoneme or span.end > span.start]
    return Layout(first, last, samples, placed, word_spans(sounds, starts, stops, words, first))


def absorb(sounds: Sequence[Sound], starts: list[int], stops: list[int], shortest: int) -> None:
    """Give the time of seams and of too short pauses, half and half, to the sounds around them."""
    index = 0
    while index < len(sounds):
        run = index
        while run < len(sounds) and not sounds[run].phoneme:
            run += 1
        if run > index and run < len(sounds):
            paused = any(sound.is_pause for sound in sounds[index:run])
            begin, end = starts[index], starts[run]
            if not paused or end - begin < shortest:
                begin = end = (begin + end) // 2
            stops[index - 1] = starts[index] = begin
            stops[index] = end
            for inner in range(index + 1, run):
                starts[inner] = stops[inner] = end
            starts[run] = end
        index = run + 1


def word_spans(
    sounds: Sequence[Sound], starts: Sequence[int], stops: Sequence[int], words: Sequence[str], first: int
) -> list[WordSpan]:
    """From the first to the last sound of each word; words without a sound have no span."""
    spans: dict[int, WordSpan] = {}
    for sound, start, stop in zip(sounds, starts, stops, strict=True):
        if sound.phoneme and words[sound.word]:
            begun = spans.get(sound.word)
            begin = begun.start if begun else start - first
            spans[sound.word] = WordSpan(words[sound.word], begin, stop - first)
    return list(spans.values())


def cut_out(pieces: Iterable[Samples], layout: Layout, rate_hz: int) -> Iterator[Samples]:
    """The audio of `layout` from the pieces of a model's audio, faded at its edges: `layout.samples` samples in all."""
    fade = min(FADE_MS * rate_hz // 1000, (layout.last - layout.first) // 2)
    ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
    at = 0
    for piece in pieces:
        begin, end = max(layout.first - at, 0), min(layout.last - at, len(piece))
        if begin < end:
            yield faded(piece[begin:end].copy(), at + begin - layout.first, layout.last - at - end, ramp)
        at += len(piece)
        if at >= layout.last:
            break
    yield np.zeros(layout.samples - (layout.last - layout.first), np.float32)


def faded(samples: Samples, before: int, after: int, ramp: Samples) -> Samples:
    """Fade in what lies within a ramp of the beginning and fade out what lies within one of the end.

    `before` and `after` are the samples kept before and after this piece.
    """
    rising = ramp[before : before + len(samples)]
    samples[: len(rising)] *= rising
    falling = ramp[after : after + len(samples)]
    samples[len(samples) - len(falling) :] *= falling[::-1]
    return samples
