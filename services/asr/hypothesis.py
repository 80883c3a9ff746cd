"""What a decode believes was said, and how much two beliefs agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.asr.engine import Samples, Word

Align = Callable[[], Sequence[Word]]


@dataclass(frozen=True)
class Hypothesis:
    """The text of one run of audio."""

    text: str = ""
    words: Sequence[Word] = ()
    """Positions at 16 kHz: a decoder counts from the beginning of its audio."""
    language: str = ""
    align: Align | None = None
    """Finds the words' places, which nobody who only wants the text has to wait for. None once they are found."""

    def aligned(self) -> "Hypothesis":
        """The same with its words. Runs in a worker thread."""
        return replace(self, words=tuple(self.align()), align=None) if self.align else self

    def placed(self, start: int, speech_start: int) -> "Hypothesis":
        """The same with positions on the stream, where the decoded audio began at `start`."""
        if (align := self.align) is not None:
            return replace(self, align=lambda: moved(align(), start, speech_start))
        return replace(self, words=moved(self.words, start, speech_start))


def moved(words: Sequence[Word], start: int, speech_start: int) -> Sequence[Word]:
    """Words of audio that began at `start`, on the stream.

    Alignment likes to begin the first word with the audio; it cannot begin before the speech.
    """
    return tuple(
        replace(
            word,
            start_sample=max(speech_start, word.start_sample + start),
            end_sample=max(speech_start, word.end_sample + start),
        )
        for word in words
    )


Decode = Callable[[Samples, str, float], Hypothesis]
"""16 kHz audio with speech in it (at most 30 s), a language or "", and how many seconds of it are voice → what was said.
Runs in a worker thread."""


def joined(texts: Sequence[str]) -> str:
    """The text of windows that follow each other."""
    return " ".join(text for text in texts if text)


def agreement(text: str, previous: str) -> float:
    """The share of the words of `text` that begin `previous` as well; 0 for an empty text.

    The idea of LocalAgreement (Liu et al., 2020, "Low-latency sequence-to-sequence speech recognition and translation by
    partial hypothesis selection"): what two successive hypotheses share seldom changes any more.
    """
    words, before = comparable(text), comparable(previous)
    same = 0
    while same < min(len(words), len(before)) and words[same] == before[same]:
        same += 1
    return same / len(words) if words else 0.0


def comparable(text: str) -> list[str]:
    """Words without case and punctuation, which change from one hypothesis to the next and mean nothing."""
    kept = ("".join(letter for letter in word if letter.isalnum()) for word in text.casefold().split())
    return [word for word in kept if word]
