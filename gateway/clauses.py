"""Cuts a reply, while it is being written, into clauses that can be spoken.

The first clause decides how long the user waits, so it is cut early; the later ones are ready long before they are needed,
so they are cut where a speaker would pause. In words (two Chinese or Japanese characters count as one):

                                first clause    later clauses
    end of a sentence              3               4
    comma, colon, dash …           3               8
    before "because", "but" …      5 *             only at the cap
    before a preposition, "and"    6               only at the cap
    before any small word          8               only at the cap
    cap                           11 words         25 words or 160 characters
    * 4 when a verb such as "is" has been said

Ends of paragraphs, headings and list items always cut. Nothing is cut inside quotes or brackets before the cap, nor behind
words that lean on the next one ("The capital of"), nor inside numbers, abbreviations, initials, list numbers or addresses,
which only a single token longer than the ceiling of 480 characters could change.
"""

import re
from enum import IntEnum

from gateway.markdown import Markdown

CAP_WORDS, CAP_CHARS, CEILING_CHARS = 25, 160, 480
FIRST_CAP_WORDS = 11

OPENERS, CLOSERS = "([{“«「『（《", ")]}”»」』）》"
CLOSING = CLOSERS + "\"'’*"
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
CJK_MARKS = "。！？，；：、"
STOPS, PAUSES, DASHES = ".!?…。！？", ",;:，；：、", "—–"


def listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


TITLES = listed(
    """mr mrs ms dr prof sr jr st gen col lt capt sgt rev hon gov sen rep pres mt ft ave blvd dept est inc ltd co corp
    vs e.g i.e cf viz al approx ca jan feb mar apr jun jul aug sep sept oct nov dec"""
)
BEFORE_NUMBERS = listed("no nos fig figs p pp vol ch sec art eq par")
INITIALS = re.compile(r"(?:[^\W\d_]|(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2})")
LIST_NUMBER = re.compile(r"(?:\d{1,3}|[A-Za-z])[.)]")
ADDRESS = re.compile(r"://|www\.|@|\w/")

CONJUNCTIONS = listed(
    """and but or nor so yet because which who whom whose when where while whereas if although though since unless
    until after before then"""
)
# These join single words as often as sentences ("a vast and lonely place").
JOINERS = listed("and or nor")
PREPOSITIONS = listed(
    """in on at with for from by about into over through between during without within across among around against
    under toward towards near behind like than as"""
)
VERBS = listed(
    """is are was were am be has have had can could will would should may might must do does did isn't aren't wasn't
    weren't can't don't doesn't didn't won't it's that's there's here's i'm you're we're they're he's she's i've
    you've we've i'll you'll"""
)
# Words that lean on the one behind them.
LEANING = (
    CONJUNCTIONS
    | PREPOSITIONS
    | VERBS
    | listed(
        "a an the of to my your his her its our their this that these those some any each every no not very more most"
    )
    | listed("i you he she we they it there mr mrs ms dr prof")
)


class Boundary(IntEnum):
    """How strongly a place in the text asks for a pause."""

    NONE = 0
    PAUSE = 1
    STOP = 2


class ClauseCutter:
    """Takes one reply in pieces of any size and gives its clauses as early as they can be told.

    Pure and without a clock. Each clause is stripped of markup and outer spaces, line ends inside it are spaces; apart from
    spaces and markup every character comes out exactly once, in order. How the text was split into pieces changes nothing
    but when a clause is returned.
    """

    def __init__(self) -> None:
        self._markdown = Markdown()
        self._text = ""
        self._gap = ""
        self._first = True

    def push(self, text: str) -> list[str]:
        """The clauses that this piece has completed."""
        return [clause for char in self._markdown.feed(text) for clause in self._add(char)]

    def flush(self) -> list[str]:
        """What is left when the reply has ended; the next push begins a new reply.

        The last clause may hold nothing to be spoken, an emoji for example: see `is_speakable`.
        """
        clauses = [clause for char in self._markdown.flush() for clause in self._add(char)]
        if self._text:
            clauses.append(self._text)
        self._markdown, self._text, self._gap, self._first = Markdown(), "", "", True
        return clauses

    def _add(self, char: str) -> list[str]:
        if char.isspace():
            return self._end_word(char)
        clauses = []
        if self._ends_before(char):
            clauses.append(self._cut(len(self._text)))
        self._text += self._gap + char if self._text else char
        self._gap = ""
        if self._ends_with_comma():
            clauses.append(self._cut(len(self._text)))
        elif place := place_at_cap(self._text):
            clauses.append(self._cut(place))
        return clauses

    def _end_word(self, char: str) -> list[str]:
        clauses = []
        if not self._gap and self._first and (place := place_before_word(self._text)):
            clauses.append(self._cut(place))
        if char == "\n" and is_speakable(self._text):
            clauses.append(self._cut(len(self._text)))
        self._gap = " "
        return clauses

    def _ends_before(self, char: str) -> bool:
        """Whether the text ends as a clause, seen from the first character behind it."""
        found = boundary(self._text, bool(self._gap), char)
        if found is Boundary.NONE:
            return False
        least = 3 if self._first else {Boundary.STOP: 4, Boundary.PAUSE: 8}[found]
        return words(self._text) >= least and not inside_quotes(self._text)

    def _ends_with_comma(self) -> bool:
        """The first clause does not wait to see what is behind a comma that cannot belong to a number or an address."""
        if not self._first or self._text[-1:] not in (",", ";") or not self._text[-3:-1].isalpha():
            return False
        token = self._text.rpartition(" ")[2]
        return words(self._text) >= 3 and not ADDRESS.search(token) and not inside_quotes(self._text)

    def _cut(self, place: int) -> str:
        clause, self._text = self._text[:place].strip(), self._text[place:].strip()
        self._first = False
        if not self._text:
            self._gap = ""
        return clause


def is_speakable(clause: str) -> bool:
    """Whether there is anything in it that a voice could say."""
    return any(char.isalnum() for char in clause)


def words(text: str) -> int:
    """Words in the text, two Chinese or Japanese characters counting as one."""
    return sum(map(is_speakable, CJK.sub(" ", text).split())) + len(CJK.findall(text)) // 2


def boundary(text: str, gap: bool, following: str) -> Boundary:
    """What kind of pause `text` ends with, given whether spaces follow it and the first character behind them."""
    core = text.rstrip(CLOSING)
    mark = core[-1:]
    if not mark or not (gap or (mark in CJK_MARKS + "—" and following not in STOPS + PAUSES + DASHES + CLOSING)):
        return Boundary.NONE
    if mark in PAUSES + DASHES or core.endswith((" -", "..", "…")):
        return Boundary.PAUSE
    if mark not in STOPS:
        return Boundary.NONE
    if mark == "." and (following.islower() or is_abbreviation(core, following)):
        return Boundary.NONE
    if following.islower():
        # "Really?" he asked.
        return Boundary.PAUSE if core == text else Boundary.NONE
    return Boundary.STOP


def is_abbreviation(text: str, following: str) -> bool:
    """Whether the full stop that ends `text` belongs to its last word."""
    head, _, token = text.rpartition(" ")
    if not head and LIST_NUMBER.fullmatch(token):
        return True
    word = token.rstrip(".").lstrip(OPENERS + "\"'").lower()
    return word in TITLES or bool(INITIALS.fullmatch(word)) or (word in BEFORE_NUMBERS and following.isdigit())


def inside_quotes(text: str) -> bool:
    """Whether a quotation or bracket is open at the end of the text."""
    depth, quoted = 0, False
    for index, char in enumerate(text):
        before = text[index - 1] if index else " "
        if char in OPENERS:
            # A sad face is no bracket.
            depth += before not in ":;-"
        elif char in CLOSERS:
            depth = max(0, depth - 1)
        elif char == '"':
            quoted = not quoted and (before.isspace() or before in OPENERS + DASHES)
    return bool(depth) or quoted


def place_before_word(text: str) -> int:
    """Where to cut a first clause because of the word that has just ended; 0 if it does not begin a new phrase."""
    head, _, token = text.rpartition(" ")
    word, count = token.rstrip(".,;:!?").lower(), words(head)
    said = [said.strip(".,;:!?\"'").lower() for said in head.split()]
    if count < 4 or leans(head) or inside_quotes(head):
        return 0
    if word in CONJUNCTIONS and (said[-1].isdigit() or {"between", "both", "either", "neither"} & set(said[-4:])):
        return 0
    begins = word in CONJUNCTIONS - JOINERS and count >= (4 if VERBS & set(said) else 5)
    begins = begins or (word in PREPOSITIONS | JOINERS and count >= 6) or (word in LEANING and count >= 8)
    return len(head) if begins or count >= FIRST_CAP_WORDS else 0


def leans(head: str) -> bool:
    """Whether the last word wants the next one."""
    return head.rpartition(" ")[2].rstrip(".").lower() in LEANING


def place_at_cap(text: str) -> int:
    """Where to cut a text that has grown over the cap; 0 while it has not, or has no good place."""
    if len(text) <= CAP_CHARS and words(text) <= CAP_WORDS:
        return 0
    gaps = [
        found.start() for found in re.finditer(r"(?<=\S)\s|(?<=[\u3040-\u9fff，。；：、])(?=[\u3040-\u9fff])", text)
    ]
    places = [place for place in gaps if words(text[:place]) >= 4 or place > CAP_CHARS // 2]
    if places:
        return max(places, key=lambda place: (worth(text, place), place))
    return CEILING_CHARS if len(text) > CEILING_CHARS else 0


def worth(text: str, place: int) -> int:
    """How good a cut at this place is, 0 to 4. The better half of the places is the later one."""
    head, rest = text[:place], text[place:].strip()
    following = rest.partition(" ")[0].lower()
    if boundary(head, True, rest[:1]) is not Boundary.NONE:
        return 4
    if leans(head):
        return 0
    if 2 * place < len(text):
        return 1
    return 3 if following in CONJUNCTIONS else 2 if following in PREPOSITIONS else 1
