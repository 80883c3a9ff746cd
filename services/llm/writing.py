"""Tokens as text, a piece at a time: never half a character, never the beginning of a stop text."""

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"
"""What a decoder writes for bytes that are no whole character yet."""


class Detokenizer:
    """The text of a growing list of tokens.

    A token's text can depend on the one before it, so each piece is the difference between two decodings: one of the
    tokens that gave the last piece, one of these and all since.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], told: Sequence[int] = ()) -> None:
        """`told` are tokens before the first, whose text is known already."""
        self._decode = decode
        self._ids = list(told)
        self._told = len(told)
        """How many of the tokens are told in full."""

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is still incomplete."""
        self._ids.append(token)
        before, text = self._decode(self._ids[: self._told]), self._decode(self._ids)
        if text.endswith(INCOMPLETE):
            return ""
        self._ids = self._ids[self._told :]
        self._told = len(self._ids)
        return text[len(before) :]

    def rest(self) -> str:
        """The whole characters that were held back with an incomplete one, as no token follows."""
        before, text = self._decode(self._ids[: self._told]), self._decode(self._ids)
        return text[len(before) :].rstrip(INCOMPLETE)


class StopTexts:
    """Holds back what may become a stop text until it is known whether it does."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.met = False

    def push(self, text: str) -> str:
        """What of the text so far can be told. Once a stop text is met, what comes before it and then nothing."""
        if self.met:
            return ""
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        self.met = bool(found)
        keep = min(found) if found else len(self._held) - self._beginning()
        told, self._held = self._held[:keep], self._held[keep:]
        return told

    def rest(self) -> str:
        """What was held back and is no stop text after all, as nothing follows it."""
        told, self._held = "" if self.met else self._held, ""
        return told

    def _beginning(self) -> int:
        """Length of the longest end of the held text that begins a stop text."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        lengths = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(self._held[-n:]) for stop in self._stops)), 0)


class Seam:
    """Between the beginning of a reply and its rest: white space that both bring is told once."""

    def __init__(self, tail: str) -> None:
        """`tail` is the white space at the end of the beginning."""
        self._tail = tail

    def push(self, text: str) -> str:
        """What of the rest's next piece is new."""
        while self._tail and text and text[0] == self._tail[0]:
            self._tail, text = self._tail[1:], text[1:]
        if text:
            self._tail = ""
        return text


class Writer:
    """The text of a reply, or of the rest of one that was begun, as its tokens come."""

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        stops: Sequence[str],
        begun: Sequence[int] = (),
        tail: str = "",
    ) -> None:
        """`begun` are the tokens of the reply's beginning and `tail` the white space behind it; neither is told again."""
        self._detokenizer = Detokenizer(decode, begun)
        self._stops = StopTexts(stops)
        self._seam = Seam(tail)

    @property
    def stopped(self) -> bool:
        """Whether a stop text has ended the reply."""
        return self._stops.met

    def push(self, token: int) -> str:
        """What can be told now that `token` has come; often nothing."""
        return self._seam.push(self._stops.push(self._detokenizer.push(token)))

    def rest(self) -> str:
        """What remains to be told when no token follows."""
        return self._seam.push(self._stops.push(self._detokenizer.rest()) + self._stops.rest())
