"""What the ASR would tell of a turn, and when: its own detector and decoder, without waiting for the audio's real time."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.asr.activity import Thresholds
from services.asr.engine import Activity
from services.asr.hypothesis import Decode
from services.asr.silero import WINDOW, SpeechProbabilities
from services.asr.turn_model import LENGTH, Predict
from services.asr.utterance import Utterance
from services.asr.window import LEAD
from tools.bench.speech.levels import RATE_HZ, Samples
from tools.bench.speech.turns import Pause, SpokenTurn

ASKED_MS = (96, 192)
"""Silences after which the turn model is asked."""
DECODED_MS = 96
LEAST_PAUSE_MS = 192
"""Shorter ones decide nothing: their text is not needed."""
PAUSE_MS, END_MS = 64, 1_200


@dataclass(frozen=True)
class Event:
    """Told at sample `at`, if computing took no time: voiced, paused, ended (value: a sample), text or turn N (N ms)."""

    at: int
    kind: str
    value: Any


@dataclass(frozen=True)
class Observed:
    name: str
    speaker: str
    part: str
    ends_at: int
    pauses: list[dict[str, Any]]
    events: list[Event]


def observed(turn: SpokenTurn, vad: Any, decode: Decode, predict: Predict | None) -> Observed:
    """Everything that is told of a turn, in order."""
    events = sorted(happenings(turn.audio, vad, decode, predict), key=lambda event: event.at)
    recording = turn.recording
    return Observed(turn.name, recording.speaker, recording.part, turn.ends_at, [*map(told, turn.pauses)], events)


def told(pause: Pause) -> dict[str, Any]:
    return {"start": pause.stretch.start, "end": pause.stretch.end, "place": pause.place, "after": pause.after,
            "natural": pause.natural}  # fmt: skip


def happenings(audio: Samples, vad: Any, decode: Decode, predict: Predict | None) -> Iterator[Event]:
    thresholds = Thresholds(pause=PAUSE_MS * RATE_HZ // 1000, end_silence=END_MS * RATE_HZ // 1000)
    probabilities = SpeechProbabilities(vad)
    utterance = Utterance(thresholds, 600_000)
    judged = [probabilities.push(audio[at : at + WINDOW]) for at in range(0, len(audio) - WINDOW, WINDOW)]
    ends = pauses_judged([each[0] for each in judged], thresholds)
    speech_start: int | None = None
    for index, probability in enumerate(judged):
        changes, _ = utterance.append(audio[index * WINDOW : (index + 1) * WINDOW], probability)
        detector = utterance.detector
        for change in changes:
            yield Event(detector.position, change.kind.name, change.position)
            if change.kind is Activity.SPEECH_STARTED and speech_start is None:
                speech_start = change.position
        lasts = ends.get(detector.voiced_until, 0) - detector.voiced_until
        if not utterance.window.has_speech or lasts * 1000 < LEAST_PAUSE_MS * RATE_HZ:
            continue
        if detector.silence == DECODED_MS * RATE_HZ // 1000:
            snapshot = utterance.snapshot()
            yield Event(detector.position, "text", decode(snapshot.audio, "en", snapshot.voice_s).text)
        for silence_ms in ASKED_MS if predict else ():
            if predict and detector.silence == silence_ms * RATE_HZ // 1000:
                began = max(0, (speech_start or 0) - LEAD, detector.position - LENGTH)
                yield Event(detector.position, f"turn {silence_ms}", predict(audio[began : detector.position]))


def pauses_judged(probabilities: list[float], thresholds: Thresholds) -> dict[int, int]:
    """Where each run without a voice begins, as the detector sees it, and where it ends."""
    found: dict[int, int] = {}
    silence_from: int | None = None
    for index, probability in enumerate(probabilities):
        if silence_from is None and probability < thresholds.leave:
            silence_from = index * WINDOW
        elif silence_from is not None and probability >= thresholds.enter:
            found[silence_from], silence_from = index * WINDOW, None
    if silence_from is not None:
        found[silence_from] = len(probabilities) * WINDOW
    return found


def kept(path: Path, entries: list[Observed]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(asdict(entry)) for entry in entries) + "\n")


def read(path: Path) -> list[Observed]:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [Observed(**{**entry, "events": [Event(**event) for event in entry["events"]]}) for entry in entries]
