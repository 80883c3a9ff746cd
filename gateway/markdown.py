"""What a language model writes as Markdown, as the plain text that is spoken and shown.

Markup is dropped, never text: headings, bullets, quotes and rules at the start of a line; emphasis, code marks, links and
escapes inside it. Line ends become a space, or a newline where a paragraph, list item or heading ends, because that is where
a speaker pauses. Works on a stream: what was fed in one piece or letter by letter gives the same text.
"""

import re

# What may still turn out to be the mark that opens a line, and what is one. A list number is text, but starts a new item.
OPENING = re.compile(r"[ \t]*(?:#{0,6}|[-*+•]|>|\d{1,3}[.)]?|([-*_=])\1*|`{1,2}|`{3}[^\n`]*)")
DROPPED = re.compile(r"[ \t]*(?:(?P<heading>#{1,6})|[-*+•]|>)[ \t]")
NUMBER = re.compile(r"[ \t]*\d{1,3}[.)][ \t]")
RULE = re.compile(r"[ \t]*(?:([-*_=])\1{2,}|`{3}[^\n`]*)\n")
LONGEST_LINK = 400


class Markdown:
    """Strips the markup from one text. Holds back no more than a line's opening mark, a run of marks or a link."""

    def __init__(self) -> None:
        self._opening: str | None = ""
        self._held = ""
        self._last = "\n"
        self._heading = False

    def feed(self, text: str) -> str:
        """The plain text that has become certain."""
        chars = text.replace("\r", "")
        return "".join(self._open(char) if self._opening is not None else self._inline(char) for char in chars)

    def flush(self) -> str:
        """The rest. The text has ended; the object can be thrown away."""
        opening, self._opening = self._opening or "", None
        if RULE.fullmatch(opening + "\n") or DROPPED.fullmatch(opening + " "):
            return ""
        rest = "".join(map(self._inline, opening))
        while self._held.startswith(("[", "![")):
            rest += self._release_link()
        held, self._held = self._held, ""
        return rest + (self._run(held, " ") if held else "")

    def _open(self, char: str) -> str:
        """At the start of a line, where a mark may stand."""
        opening = (self._opening or "") + char
        if char == "\n" and not opening.strip():
            return self._break("\n")
        if OPENING.fullmatch(opening):
            self._opening = opening
            return ""
        self._opening = None
        if RULE.fullmatch(opening):
            return self._break("\n")
        if mark := DROPPED.fullmatch(opening):
            self._heading = mark["heading"] is not None
            # Another mark may follow, as in "> - quoted item".
            self._opening = ""
            return self._say("\n")
        number = self._say("\n") if NUMBER.fullmatch(opening) else ""
        return number + "".join(map(self._inline, opening))

    def _inline(self, char: str) -> str:
        held = self._held
        if held.startswith(("[", "![")):
            return self._link(char)
        if held and char == held[0] and char in "*_~`":
            self._held += char
            return ""
        self._held = ""
        said = self._run(held, char) if held else ""
        if held == "\\":
            return said + self._say(char)
        if held == "!" and char == "[":
            self._held = "!["
            return ""
        if char in "*_~`[!\\":
            self._held = char
            return said
        return said + (self._break(" ") if char == "\n" else self._say(char))

    def _run(self, run: str, following: str) -> str:
        """A held run of marks (or one "!" or backslash), now that the character behind it is known."""
        if run == "\\":
            return self._say(run) if following.isalnum() or following.isspace() else ""
        if run == "!":
            return self._say("!") if following != "[" else ""
        inside = self._last.isalnum() and following.isalnum()
        alone = self._last.isspace() and following.isspace()
        literal = {"*": len(run) == 1 and (inside or alone), "_": inside or alone, "~": len(run) == 1, "`": False}
        return self._say(run) if literal[run[0]] else ""

    def _link(self, char: str) -> str:
        """Inside [label](address), which is read as its label; anything else in brackets is read as it stands."""
        label, closed, target = self._held.partition("]")
        if char == "[" and not closed:
            return self._release_link() + self._inline(char)
        self._held += char
        if closed and target.startswith("(") and char == ")":
            self._held = ""
            return "".join(map(self._inline, label.lstrip("!").lstrip("[")))
        if char == "\n" or len(self._held) > LONGEST_LINK or (closed and not target and char != "("):
            return self._release_link()
        return ""

    def _release_link(self) -> str:
        """What was held was no link: say its bracket, then read the rest as if it had just come."""
        held, self._held = self._held, ""
        mark = "![" if held.startswith("![") else "["
        return self._say(mark) + self.feed(held.removeprefix(mark))

    def _break(self, gap: str) -> str:
        """The end of a line; `gap` is what it would be in running text."""
        self._opening = ""
        gap, self._heading = ("\n" if self._heading else gap), False
        return self._say(gap)

    def _say(self, text: str) -> str:
        self._last = text[-1]
        return text
