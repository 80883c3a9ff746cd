"""Whether a voice is sound: what it gives, and how a sentence that is known sounds."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

import numpy as np

from services.runtime.errors import LoadFailed
from services.runtime.interface import Interface
from services.tts.engine import Audio, Clause, Samples, Speech, SynthesisConfig, TtsEngine

SENTENCE = "The sun is warm today."
SECONDS = (0.5, 6.0)
RMS_DB = (-45.0, -3.0)
MOST_PEAK = 1.001
QUIETEST = 1e-9


def interface(engine: TtsEngine) -> Interface:
    """The one rate that the voice itself has, though a call may ask for another."""
    return Interface(
        sample_rates_hz=(engine.sample_rate_hz,),
        languages=tuple(engine.languages),
        phonemes=tuple(engine.phonemes),
        voices=tuple(engine.voices),
    )


async def measure(engine: TtsEngine) -> Mapping[str, str | float]:
    """Speak a sentence with the default voice.

    seconds        of audio
    rms_db         level over all of it, dB of full scale
    peak           largest sample, 1 is full scale
    phonemes       those announced, without silences, joined by spaces; empty for an engine that gives none
    phoneme_count  how many they are

    Length and level of most voices differ a little each time. Raises LoadFailed for audio of another length than announced,
    spans that do not tile it or are not of the engine's own phonemes, samples that are no numbers, and for a length, level
    or peak beyond SECONDS, RMS_DB and MOST_PEAK.
    """
    speeches, audio = await spoken(engine)
    announced = sum(speech.samples for speech in speeches)
    if announced != len(audio):
        raise LoadFailed(
            f"golden input: {announced} samples were announced and {len(audio)} are heard, expected the same"
        )
    named = [phoneme for speech in speeches for phoneme in tiled(speech, engine.phonemes)]
    return {**levels(audio, engine.sample_rate_hz), "phonemes": " ".join(named), "phoneme_count": len(named)}


async def spoken(engine: TtsEngine) -> tuple[Sequence[Speech], Samples]:
    """What was announced, and all that is heard."""

    async def sentence() -> AsyncGenerator[Clause, None]:
        yield Clause(0, SENTENCE)

    async with aclosing(engine.synthesize(SynthesisConfig(), sentence())) as parts:
        given = [part async for part in parts]
    pieces = [part.samples for part in given if isinstance(part, Audio)]
    audio = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
    return [part for part in given if isinstance(part, Speech)], audio


def levels(audio: Samples, rate_hz: int) -> dict[str, float]:
    """Length, level and peak. Raises LoadFailed when one is beyond its bounds."""
    if wrong := int(np.count_nonzero(~np.isfinite(audio))):
        raise LoadFailed(f"golden input: {wrong} of {len(audio)} samples are no finite numbers, none is sound")
    seconds = within("seconds", len(audio) / rate_hz, *SECONDS)
    wide = audio.astype(np.float64)
    rms_db = within("rms_db", 10 * np.log10(np.mean(wide * wide) + QUIETEST), *RMS_DB)
    return {"seconds": seconds, "rms_db": rms_db, "peak": within("peak", np.abs(wide).max(), 0.0, MOST_PEAK)}


def within(name: str, value: float, least: float, most: float) -> float:
    """`value`, rounded. Raises LoadFailed when it is not between the bounds."""
    if not least <= value <= most:
        raise LoadFailed(f"golden input: {name} is {value:.3f}, {least:g} to {most:g} is sound")
    return round(float(value), 3)


def tiled(speech: Speech, known: Sequence[str]) -> list[str]:
    """The phonemes of a speech. Raises LoadFailed unless they are known and tile it, where there are any."""
    at = 0
    for span in speech.phonemes:
        if span.start != at or span.end < span.start:
            raise LoadFailed(
                f"golden input: phoneme {span.phoneme!r} is at {span.start} to {span.end}, expected from {at} on"
            )
        if span.phoneme and span.phoneme not in known:
            raise LoadFailed(f"golden input: phoneme {span.phoneme!r} is none that the engine says it gives")
        at = span.end
    if speech.phonemes and at != speech.samples:
        raise LoadFailed(f"golden input: phonemes end at {at}, expected {speech.samples}, where the audio ends")
    return [span.phoneme for span in speech.phonemes if span.phoneme]
