"""Makes `recordings.json`: chooses clips, and finds the places between their words. Needed only when the choice changes.

python -m tools.bench.speech.marking WHISPER_FOLDER
"""

import gzip
import hashlib
import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tools.bench.speech.levels import FRAME, RATE_HZ, Samples, decibels, voices
from tools.bench.speech.packages import folder
from tools.bench.speech.recordings import TABLE, Gap, Part, Place, Recording

PROMPTS = "asterisk-core-sounds-en-g722"
PROMPT_FOLDER = "usr/share/asterisk/sounds/en_US_f_Allison"
LISTING = ("asterisk-core-sounds-en", "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
READINGS = "usr/share/pocketsphinx/test/data"
RADIO = "usr/share/codec2"
NO_TURN = re.compile(
    r"""\.\.\.|[\[(*]|^(conf-(enteringno|otherinparty|users?willjoin|hasjoin)|astcc-|at-tone|if-correct|priv-callpending
    |queue-(callswaiting|holdtime|quantity|thereare)|dir-(first|last)|info-about|vm-(num-i|onefor|savemessage|received)
    |unidentified|beep|spy-|confbridge-.*-(in|out|extended)$|privacy-unident|followme/no-rec)""",
    re.VERBOSE,
)
"""Prompts that begin or end in the middle of a sentence."""
OTHERS: tuple[tuple[str, str, str, float, float], ...] = (
    *(
        ("pocketsphinx-testdata", f"{READINGS}/librivox/sense_and_sensibility_01_austen_64kb-0{n}.wav", "reader", 0, -1)
        for n in (870, 890, 920, 930)
    ),
    ("pocketsphinx-testdata", f"{READINGS}/goforward.raw", "cmu-1", 0, -1),
    ("pocketsphinx-testdata", f"{READINGS}/something.raw", "cmu-1", 0, -1),
    ("pocketsphinx-testdata", f"{READINGS}/cards/005.wav", "cmu-2", 0, -1),
    ("codec2-examples", f"{RADIO}/raw/speech_orig_16k.wav", "harvard-3", 0, 2.5),
    ("codec2-examples", f"{RADIO}/raw/speech_orig_16k.wav", "harvard-3", 2.6, 5.65),
    ("codec2-examples", f"{RADIO}/raw/speech_orig_16k.wav", "harvard-3", 5.65, 7.85),
    ("codec2-examples", f"{RADIO}/raw/speech_orig_16k.wav", "harvard-3", 7.9, -1),
    *(
        ("codec2-examples", f"{RADIO}/raw/hts.raw", "harvard-1" if start < 6 else "harvard-2", start, end)
        for start, end in (
            (0, 2.9),
            (2.95, 5.8),
            (5.9, 8.9),
            (8.95, 12),
            (12, 15),
            (15, 18.05),
            (18.05, 20.9),
            (20.95, -1),
        )
    ),
    ("codec2-examples", f"{RADIO}/raw/morig.raw", "harvard-4", 0, -1),
    ("codec2-examples", f"{RADIO}/raw/forig.raw", "harvard-5", 0, -1),
    ("codec2-examples", f"{RADIO}/raw/big_dog.raw", "harvard-6", 0, -1),
    ("codec2-examples", f"{RADIO}/raw/mmt1.raw", "harvard-7", 0, -1),
    ("codec2-examples", f"{RADIO}/raw/cross.raw", "harvard-8", 0, -1),
    ("codec2-examples", f"{RADIO}/raw/vk5qi.raw", "vk5qi", 0, -1),
    ("codec2-examples", f"{RADIO}/raw/cq_ref.raw", "ka9q", 0, -1),
    *(
        ("codec2-examples", f"{RADIO}/raw/ve9qrp.raw", "ve9qrp", start, end)
        for start, end in ((0, 22.5), (22.45, 34.6), (35.2, 46.95), (46.9, 59.8), (59.75, 76.2))
    ),
)
"""Package, file, speaker, and from where to where in seconds; -1 is the end."""
MOST_S = 16.0
SEARCH = 8
"""Frames around the boundary that the words' times suggest."""
LEAST_DIP_DB = 12.0
NATURAL_MS = 150
MOST_PLACES = 3


@dataclass(frozen=True)
class Spoken:
    """A word with its times in seconds."""

    text: str
    start: float
    end: float


def main() -> None:
    from faster_whisper import WhisperModel

    model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=2)
    table = [entry for clip in clips() if (entry := marked(model, clip))]
    lines = [
        json.dumps({**asdict(entry), "gaps": [list(asdict(gap).values()) for gap in entry.gaps]}) for entry in table
    ]
    TABLE.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(table)} recordings, {sum(len(entry.gaps) for entry in table)} gaps")


def clips() -> Iterator[Recording]:
    """Without texts and gaps."""
    for line in gzip.decompress(folder(LISTING[0]).joinpath(*LISTING).read_bytes()).decode().splitlines():
        name, _, text = line.partition(":")
        if len(text.split()) >= 4 and not NO_TURN.search(name) and not NO_TURN.search(text):
            path = f"{PROMPT_FOLDER}/{name}.g722"
            yield Recording(name, PROMPTS, path, 0, -1, "prompts", part(name), "", ())
    for package, path, speaker, start, end in OTHERS:
        name = f"{Path(path).stem}-{start:g}"
        last = -1 if end < 0 else int(end * RATE_HZ)
        yield Recording(name, package, path, int(start * RATE_HZ), last, speaker, "report", "", ())


def part(name: str) -> Part:
    """Half of the prompts, and no other speaker, are for tuning."""
    return "tuning" if hashlib.sha256(name.encode()).digest()[0] % 2 else "report"


def marked(model: Any, clip: Recording) -> Recording | None:
    """With text and gaps; None for what is too long, or no file."""
    if not (folder() / clip.package / clip.path).is_file():
        return None
    audio = clip.samples(folder())
    if len(audio) > 1.5 * MOST_S * RATE_HZ or not voices(audio):
        return None
    segments, _ = model.transcribe(audio, language="en", beam_size=2, word_timestamps=True)
    words = [Spoken(word.word.strip(), word.start, word.end) for segment in segments for word in segment.words]
    if len(words) < 3:
        return None
    return Recording(**{**asdict(clip), "text": " ".join(word.text for word in words), "gaps": gaps(audio, words)})


def gaps(audio: Samples, words: list[Spoken]) -> tuple[Gap, ...]:
    """Where it is quiet between two words, from the second word on."""
    levels = decibels(audio)
    loud = float(np.percentile(levels, 95))
    found = [gap(levels, loud, one, other) for one, other in pairwise(words[1:])]
    places = [entry for entry in found if entry]
    chance = random.Random(len(audio))
    free = [entry for entry in places if not entry.natural]
    kept = chance.sample(free, min(MOST_PLACES, len(free)))
    return tuple(entry for entry in places if entry.natural or entry in kept)


def gap(levels: Any, loud: float, one: Spoken, other: Spoken) -> Gap | None:
    place: Place = "sentence" if one.text[-1] in ".?!" else "comma" if one.text[-1] in ",;:" else "inside"
    if (other.start - one.end) * 1000 >= NATURAL_MS:
        return Gap(int((one.end + other.start) / 2 * RATE_HZ), place, one.text, natural=True)
    low = max(0, int(one.end * 100) - SEARCH)
    around = levels[low : int(other.start * 100) + SEARCH]
    if len(around) < 3:
        return None
    quietest = int(np.argmin(around))
    if around[quietest] > loud - LEAST_DIP_DB:
        return None
    return Gap((low + quietest) * FRAME + FRAME // 2, place, one.text, natural=False)


if __name__ == "__main__":
    main()
