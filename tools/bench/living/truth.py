"""What a session's record shows: stale media, words that were never heard, pictures apart from their sound or late."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.bench.living.line import Cut, Record, Shown, Word
from tools.bench.living.loudspeaker import Heard

LATE_MS = 40.0
"""A picture that comes later than this after its place is late: one whole picture at 25 a second."""


def stale(record: Record) -> int:
    """Audible chunks and pictures of the speaking face that came after a cut had made them void, or belong to no turn."""
    sounds = [chunk for chunk in record.loudspeaker.chunks if chunk.audible_from is not None]
    cuts = [cut for cut in record.cuts if not cut.may_resume]
    homeless = sum(not chunk.turn for chunk in sounds)
    media: list[Heard | Shown] = [*sounds, *record.pictures]
    return homeless + sum(is_void(one, cuts) for one in media)


def is_void(media: Heard | Shown, cuts: Iterable[Cut]) -> bool:
    return any(media.at > cut.at and media.turn == cut.turn and media.start >= cut.sample for cut in cuts)


def received_until(record: Record, turn: str) -> int:
    """The sample up to which a reply was received and not cut off again; 0 if nothing was."""
    ends = [c.start + c.samples for c in record.loudspeaker.chunks if c.turn == turn]
    cuts = [cut.sample for cut in record.cuts if cut.turn == turn and not cut.may_resume]
    return min([max(ends, default=0), *cuts])


def heard_words(record: Record, turn: str) -> list[Word]:
    """The words of a reply whose sound was received to its end."""
    until = received_until(record, turn)
    words = [word for word in record.words if word.turn == turn and word.end <= until]
    return sorted(words, key=lambda word: word.start)


def played_word_error(record: Record, turn: str) -> int | None:
    """How many words a reply's TurnDone has too many, too few or other than were received; None without a TurnDone."""
    for done in record.done:
        if done.turn == turn:
            heard = [plain(word.text) for word in heard_words(record, turn)]
            return distance(heard, [plain(word) for word in done.told.reply_text.split()])
    return None


def plain(word: str) -> str:
    return "".join(char for char in word.lower() if char.isalnum())


def distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Words to add, leave out or exchange to make the one out of the other (Levenshtein)."""
    first, second = [word for word in first if word], [word for word in second if word]
    row = list(range(len(second) + 1))
    for index, word in enumerate(first, 1):
        before, row = row, [index]
        for place, other in enumerate(second, 1):
            row.append(min(row[-1] + 1, before[place] + 1, before[place - 1] + (word != other)))
    return row[-1]


def offsets_ms(record: Record, rate_hz: int) -> list[float]:
    """For each picture of the speaking face: how much later it came than the sound that belongs to it, in ms."""
    chunks = sorted((c for c in record.loudspeaker.chunks if c.samples), key=lambda c: c.start)
    starts = [chunk.start for chunk in chunks]
    found = []
    for shown in record.pictures:
        index = bisect_right(starts, shown.start) - 1
        if not shown.speaking or index < 0 or shown.start >= starts[index] + chunks[index].samples:
            continue
        sound_at = chunks[index].at + (shown.start - starts[index]) / rate_hz
        found.append(1000 * (shown.at - sound_at))
    return found


@dataclass(frozen=True)
class Frames:
    """Pictures that there should have been, those that were late, and those that never came."""

    expected: int
    late: int
    missing: int

    @property
    def late_pct(self) -> float:
        return 100 * (self.late + self.missing) / max(1, self.expected)


def frames(record: Record, rate_hz: int, fps: float, since: float = 0.0) -> Frames:
    """All pictures of a session from a moment on, against a clock that began with whatever came soonest."""
    media = [(c.at, c.start) for c in record.loudspeaker.chunks] + [(s.at, s.start) for s in record.pictures]
    if not media:
        return Frames(0, 0, 0)
    zero = min(at - start / rate_hz for at, start in media)
    shown = [picture for picture in record.pictures if picture.at >= since]
    if not shown:
        return Frames(1, 0, 1)
    step = rate_hz / fps
    places = {round(picture.start / step) for picture in shown}
    expected = max(places) - min(places) + 1
    late = sum(1000 * (picture.at - zero - picture.start / rate_hz) > LATE_MS for picture in shown)
    return Frames(expected, late, expected - len(places))
