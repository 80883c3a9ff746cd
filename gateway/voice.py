"""What has been said of a reply, word by word, so that another voice can go on where one was taken away. No I/O.

Audio is passed on up to the end of the last whole word that has arrived; what is held back of a word in progress comes
within milliseconds. A voice that does not tell where its words lie is passed on clause by clause.
"""

import re
from dataclasses import dataclass, replace

from gateway import speech
from gateway.turn import AudioCame, Input, Say, Span, SpeechCut, moved
from services.runtime.errors import DomainError
from talkmesh.tts.v1 import tts_pb2

BETWEEN_WORDS = re.compile(r"""[)\]}"”’'»>*_~|.,;:!?…]*(?:\s|—|–|--)*""")
"""Marks that close a word, and what separates it from the next."""
WORD = re.compile(r"\s*\S+")


@dataclass
class Part:
    """A stretch of a clause whose sounds were told before its audio. Positions are on the reply's clock."""

    words: tuple[Span, ...]
    end: int | None
    """Where its audio ends; None when the voice does not tell."""

    def sure(self, heard: int) -> int:
        """Up to where audio that has arrived up to `heard` can be passed on: never into a word that is not whole."""
        inside = (word.start for word in self.words if word.start < heard < word.end)
        return min(inside, default=heard)


class Voice:
    """Follows the speech of one reply, through any number of streams."""

    def __init__(self) -> None:
        self._unsaid: list[Say] = []
        self._part: Part | None = None
        self._told = 0
        """Characters of the clause in progress whose words have been passed on."""
        self._held = bytearray()
        self._passed = self._offset = 0

    @property
    def unsaid(self) -> list[Say]:
        """The clauses that are not said yet, the first one without its words that are."""
        return [
            replace(say, text=self._rest(say.text) if index == 0 else say.text)
            for index, say in enumerate(self._unsaid)
        ]

    @property
    def waiting(self) -> int:
        """How many clauses are not said to their end."""
        return len(self._unsaid)

    def add(self, clause: Say) -> None:
        """A clause that will be spoken."""
        self._unsaid.append(clause)

    def take(self, response: tts_pb2.SynthesizeResponse) -> list[Input]:
        """What the turn is to learn from a response. Raises DomainError for a clause that was not given."""
        match response.WhichOneof("response"):
            case "speech":
                # A voice without words: its clause is passed on as a whole, when it is done.
                whole = self._part is not None and bool(self._part.words)
                return [*self._pass_on(whole), *self._planned(response.speech)]
            case "audio":
                self._held += response.audio.data
                return self._pass_on(whole=False)
            case "done":
                return self._done(response.done.clause_index)
        return []

    def cut(self) -> list[Input]:
        """The stream has ended in the middle; the next one begins where this one was passed on to."""
        part, self._part = self._part, None
        self._held.clear()
        self._offset = self._passed
        if part is None:
            return []
        if self._rest(self._unsaid[0].text):
            return [SpeechCut(self._passed)]
        # All words are out: the pause after them needs no voice.
        self._held += bytes(2 * max(0, (part.end or 0) - self._passed))
        inputs = self._done(self._unsaid[0].index)
        self._offset = self._passed
        return inputs

    def _planned(self, told: tts_pb2.ClauseSpeech) -> list[Input]:
        self._begin(told.clause_index)
        planned = speech.planned(told, self._unsaid[0].expression)
        planned = replace(
            planned,
            start=planned.start + self._offset,
            phonemes=moved(planned.phonemes, self._offset),
            words=moved(planned.words, self._offset),
        )
        self._part = Part(planned.words, planned.phonemes[-1].end if planned.phonemes else None)
        return [planned]

    def _begin(self, index: int) -> None:
        """The clause in progress is that one; those before it had nothing to say."""
        if index not in (say.index for say in self._unsaid):
            raise DomainError(f"tts: speaks clause {index}, which is not one of those that wait to be spoken")
        while self._unsaid[0].index != index:
            self._drop_first()

    def _done(self, index: int) -> list[Input]:
        self._begin(index)
        inputs = self._pass_on(whole=True)
        self._drop_first()
        self._part = None
        return inputs

    def _drop_first(self) -> None:
        del self._unsaid[0]
        self._told = 0

    def _pass_on(self, whole: bool) -> list[Input]:
        """Audio that has arrived: all of it, or up to the end of the last whole word."""
        heard = self._passed + len(self._held) // 2
        until = heard
        if not whole:
            until = self._part.sure(heard) if self._part and self._part.words else self._passed
        data = bytes(self._held[: 2 * (until - self._passed)])
        if not data:
            return []
        start, self._passed = self._passed, until
        del self._held[: len(data)]
        self._note_words(start)
        return [AudioCame(start, data)]

    def _note_words(self, since: int) -> None:
        """Find the words that ended in what was passed on in the text of their clause."""
        text = self._unsaid[0].text if self._unsaid else ""
        for word in self._part.words if self._part else ():
            if since < word.end <= self._passed:
                self._told = behind(text, word.text, self._told)

    def _rest(self, text: str) -> str:
        """What is left to say of the clause in progress; empty if nothing of it is a word."""
        if not self._told:
            return text
        found = BETWEEN_WORDS.match(text, self._told)
        rest = text[found.end() if found else self._told :]
        return rest if any(letter.isalnum() for letter in rest) else ""


def behind(text: str, word: str, at: int) -> int:
    """The place behind `word`, looked for in `text` from `at` on; behind the next word if it is written otherwise there."""
    if (found := text.find(word, at)) >= 0:
        return found + len(word)
    following = WORD.match(text, at)
    return following.end() if following else len(text)
