"""The human speech of the bench, as files of samples: turns of tools.bench.speech, or a folder of recordings.

A folder holds WAV files and, if somebody has written down what is said, `transcripts.json`: {"name": "text"}.
"""

import json
import random
from collections.abc import Iterable
from itertools import chain, islice, zip_longest
from pathlib import Path
from subprocess import CalledProcessError

import numpy as np

from talkmesh import Wav, read_wav
from tools.bench.living import voiced
from tools.bench.living.speech import RATE_HZ, ROOM, Speech
from tools.bench.speech import levels, packages
from tools.bench.speech.recordings import WIDE, recordings
from tools.bench.speech.turns import SpokenTurn, turns

PART = "report"
"""The recordings that nothing was tuned on. Of them, those with the band of a microphone."""
LONGEST_S = 9.0
SEED = 5


class NoSpeech(Exception):
    """There are no recordings to speak."""


def corpus(folder: Path | None, made: Path, most: int) -> list[Speech]:
    """At most this many utterances; `made` is a folder for their samples. Raises NoSpeech."""
    speeches = of_folder(folder, made) if folder else of_turns(made, most)
    if not speeches:
        raise NoSpeech("nobody speaks in these recordings")
    return speeches[:most]


def of_turns(made: Path, most: int) -> list[Speech]:
    """In turn without and with pauses, and within both of one speaker after the other as far as there are any."""
    try:
        root = packages.folder()
    except (CalledProcessError, OSError) as error:
        raise NoSpeech(f"the recordings cannot be had: {error}; name a folder of recordings") from error
    spoken_into_microphones = [one for one in recordings() if one.part == PART and one.speaker in WIDE]
    found = [turn for turn in turns(spoken_into_microphones, root) if is_short(turn)]
    plain, paused = (mixed(turn for turn in found if bool(turn.pauses) is pauses) for pauses in (False, True))
    chosen = [turn for pair in zip_longest(plain, paused) for turn in pair if turn]
    return [spoken(turn, made, number) for number, turn in enumerate(islice(chosen, most))]


def is_short(turn: SpokenTurn) -> bool:
    return turn.ends_at < LONGEST_S * RATE_HZ


def mixed(found: Iterable[SpokenTurn]) -> list[SpokenTurn]:
    """Each speaker's turns in an order of chance, dealt out speaker by speaker; the same each time."""
    chance = random.Random(SEED)
    by_speaker: dict[str, list[SpokenTurn]] = {}
    for turn in found:
        by_speaker.setdefault(turn.recording.speaker, []).append(turn)
    for own in by_speaker.values():
        chance.shuffle(own)
    return [turn for turn in chain.from_iterable(zip_longest(*by_speaker.values())) if turn]


def spoken(turn: SpokenTurn, made: Path, number: int) -> Speech:
    """A turn with little of the room's noise around it, and that noise for the time before and after."""
    first = levels.voices(turn.audio)[0].start
    start, end = max(0, first - ROOM), turn.ends_at + ROOM
    pauses = tuple((p.stretch.start - start, p.stretch.end - start) for p in turn.pauses)
    return filed(
        Speech(turn.name, "", turn.recording.text, levels.onset(turn.audio) - start, turn.ends_at - start, pauses),
        turn.audio[start:end],
        turn.audio[end:],
        made / f"{number}",
    )


def of_folder(folder: Path, made: Path) -> list[Speech]:
    texts = folder / "transcripts.json"
    known = json.loads(texts.read_text()) if texts.exists() else {}
    found = []
    for path in sorted(folder.glob("*.wav")):
        samples = mono(read_wav(path))
        if spans := voiced.spans(samples):
            start, end = max(0, spans[0][0] - ROOM), min(len(samples), spans[-1][1] + ROOM)
            pauses = tuple((before - start, after - start) for before, after in voiced.pauses(spans))
            text = known.get(path.stem, "")
            speech = Speech(path.stem, "", text, spans[0][0] - start, spans[-1][1] - start, pauses)
            found.append(filed(speech, samples[start:end], voiced.noise(samples, SEED), made / path.stem))
    return found


def filed(speech: Speech, samples: voiced.Samples, noise: voiced.Samples, stem: Path) -> Speech:
    """The speech with its files."""
    pcm, room = stem.with_suffix(".pcm"), stem.with_suffix(".noise")
    pcm.write_bytes(sixteen_bit(samples))
    room.write_bytes(sixteen_bit(noise))
    return Speech(**speech.__dict__ | {"pcm": str(pcm), "noise": str(room)})


def sixteen_bit(samples: voiced.Samples) -> bytes:
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16).tobytes()


def mono(wav: Wav) -> voiced.Samples:
    """The first channel at 16 kHz, full scale 1."""
    samples = np.frombuffer(wav.data, np.float32 if wav.is_float else np.int16).reshape(-1, wav.channels)[:, 0]
    samples = samples.astype(np.float32) / np.float32(1 if wav.is_float else 32768)
    if wav.sample_rate_hz == RATE_HZ:
        return samples
    places = np.arange(int(len(samples) * RATE_HZ / wav.sample_rate_hz)) * wav.sample_rate_hz / RATE_HZ
    return np.asarray(np.interp(places, np.arange(len(samples)), samples), np.float32)
