"""From the text of a clause to sentences of words with their reading, each word tied to how it was written."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace

from services.tts.markup import unmarked
from services.tts.reading import abbreviations, words
from services.tts.reading.context import Context

LONGEST_SENTENCE = 240
"""Characters; longer sentences are cut after a comma, or before a conjunction, or wherever they must be."""
CONJUNCTIONS = frozenset(("and", "or", "but", "because", "so", "that", "which", "who", "when", "while", "where", "if"))

CHUNK = re.compile(r"(?:—|--+)|(?:\.{2,}|…)|\|+|(?:(?!—|--|\.\.|…|\|)\S)+")
PARTS = re.compile(r"([(\[{\"“‘'’«¿¡<*_~|]*)(.*?)([)\]}\"”’'»>*_~|.,;:!?…–—-]*)", re.DOTALL)
PART_OF_WORD = re.compile(r"(?<=['’])\d\ds|(?<=[<~])\d")
"""What makes the opening mark before it a part of the word: '90s, <5."""
STRENGTH = ",—:;….!?"
"""Of several marks together the one further right is heard."""
STOPS = frozenset(STRENGTH)
SENTENCE_ENDS = frozenset(".!?")
DASHES = frozenset(("-", "–", "—"))


@dataclass(frozen=True)
class SpokenWord:
    """A word as it stands in the clause, without the punctuation around it, and how it is read."""

    written: str
    """Empty for what goes on with the word before it."""
    spoken: str
    """In letters, then the punctuation mark that is heard after it, if any."""


Sentence = list[SpokenWord]


@dataclass(frozen=True)
class Token:
    """A written word between its punctuation."""

    start: int
    opening: str
    core: str
    closing: str

    @property
    def mark(self) -> str:
        """The strongest mark after it, or empty."""
        closing = re.sub(r"\.{2,}", "…", self.closing).replace("--", "—")
        found = max(closing, key=STRENGTH.find, default="")
        return found if found in STRENGTH else "," if ")" in closing or "|" in closing else ""


def read(text: str) -> Iterator[Sentence]:
    """The sentences of a text; none if there is nothing to say. Markup and emoji are not read."""
    sentence: Sentence = []
    source = unmarked(text)
    tokens = list(tokenized(source.plain))
    for index, token in enumerate(tokens):
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        context = surroundings(tokens[index - 1] if index else None, token, following)
        said = words.read(token.core, context)
        mark = token.mark or ("," if following and "(" in following.opening else "")
        if any(letter.isalpha() for letter in said):
            written = source.written(token.start, token.start + len(token.core))
            sentence.append(SpokenWord(written, said + mark))
        elif sentence and (mark or token.core in DASHES):
            sentence[-1] = replace(sentence[-1], spoken=marked(sentence[-1].spoken, mark or "—"))
        if mark in SENTENCE_ENDS and sentence:
            yield from cut(sentence)
            sentence = []
    if sentence:
        yield from cut(sentence)


def surroundings(previous: Token | None, token: Token, following: Token | None) -> Context:
    """The words beside a word, as far as no mark stands between."""
    return Context(
        previous.core if previous and not STOPS.intersection(previous.closing) else "",
        following.core if following and not STOPS.intersection(token.closing) else "",
    )


def tokenized(plain: str) -> Iterator[Token]:
    """The words of a text; a mark that stands alone belongs to the word before, and so does the end of a line."""
    tokens: list[Token] = []
    end = 0
    for match in CHUNK.finditer(plain):
        token = token_at(match.start(), match[0])
        if tokens and "\n" in plain[end : match.start()] and not tokens[-1].mark:
            tokens[-1] = replace(tokens[-1], closing=tokens[-1].closing + ".")
        if token.core:
            tokens.append(token)
        elif tokens:
            tokens[-1] = replace(tokens[-1], closing=tokens[-1].closing + token.opening + token.closing)
        end = match.end()
    for index, token in enumerate(tokens):
        yield with_point(token, tokens[index + 1].core if index + 1 < len(tokens) else "")


def token_at(start: int, chunk: str) -> Token:
    if chunk in abbreviations.SYMBOLS or chunk in ("-", "–"):
        return Token(start, "", chunk, "")
    match = PARTS.fullmatch(chunk)
    assert match is not None  # every part may be empty, so anything matches
    opening, core, closing = match.groups()
    if PART_OF_WORD.match(chunk, len(opening)):
        opening, core = opening[:-1], opening[-1] + core
    return Token(start + len(opening), opening, core, closing)


def with_point(token: Token, following: str) -> Token:
    """The point of an abbreviation belongs to it; it ends the sentence too only where nothing, or a new one, follows."""
    if not token.closing.startswith(".") or not abbreviations.takes_point(token.core, following):
        return token
    rest = token.closing[1:]
    ends = not following or (abbreviations.may_end_sentence(token.core) and following[:1].isupper())
    return replace(token, core=f"{token.core}.", closing=rest + "." if ends else rest)


def marked(spoken: str, mark: str) -> str:
    """`spoken` with the stronger of its own mark and `mark`."""
    own = spoken[-1] if spoken[-1] in STRENGTH else ""
    return spoken if own and STRENGTH.find(own) >= STRENGTH.find(mark) else spoken.removesuffix(own) + mark


def cut(sentence: Sentence) -> Iterator[Sentence]:
    """The sentence, in pieces if it is long."""
    sentence = [piece for word in sentence for piece in divided(word)]
    while sum(len(word.spoken) + 1 for word in sentence) > LONGEST_SENTENCE and len(sentence) > 1:
        place = cutting_place(sentence)
        yield sentence[:place]
        sentence = sentence[place:]
    yield sentence


def divided(word: SpokenWord) -> Iterator[SpokenWord]:
    """A word whose reading is far too long for one (a thousand digits), in several of which only the first is written."""
    if len(word.spoken) <= LONGEST_SENTENCE:
        yield word
        return
    written = word.written
    for line in textwrap.wrap(word.spoken, LONGEST_SENTENCE, break_on_hyphens=False):
        yield SpokenWord(written, line)
        written = ""


def cutting_place(sentence: Sentence) -> int:
    """How many words to take: as many as fit, up to a mark if there is one in the second half, else a conjunction."""
    length = fitting = 0
    while fitting < len(sentence) and (length := length + len(sentence[fitting].spoken) + 1) <= LONGEST_SENTENCE:
        fitting += 1
    candidates = range(max(fitting, 1), fitting // 2, -1)
    after_mark = [n for n in candidates if sentence[n - 1].spoken[-1] in STRENGTH]
    before_conjunction = [n for n in candidates if n < len(sentence) and sentence[n].spoken.lower() in CONJUNCTIONS]
    return next(iter([*after_mark, *before_conjunction, max(fitting, 1)]))
