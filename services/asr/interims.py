"""When to decode while the user still speaks."""

from dataclasses import dataclass

SETTLED = 1_024
"""Silence (16 kHz samples, 64 ms) after which the audio so far is decoded at once: if no speech follows, that text is the
final. A hypothesis that covers this much silence has heard the end of the last word: more silence makes no fewer errors."""


@dataclass(frozen=True)
class Pace:
    """How often at most."""

    every: int = 4_800
    """New audio between two interims, in 16 kHz samples."""
    rest: float = 2.0
    """Pause after a decode, as a multiple of the time that it took: 2 keeps a stream below a third of one core."""


@dataclass(frozen=True)
class Situation:
    """One utterance at one moment. Positions are 16 kHz samples."""

    heard_until: int
    speech_end: int
    """Where the voice was last heard; equal to what was judged so far while somebody speaks."""
    covered_until: int
    """What the last decode has heard; the start of speech if there was none."""
    silence: int
    since_decode_s: float
    decode_s: float
    """How long the last decode took."""


def covers(covered_until: int, speech_end: int, heard_until: int) -> bool:
    """Whether a hypothesis on the audio up to `covered_until` is what a decode of everything would say."""
    return covered_until >= min(heard_until, speech_end + SETTLED)


def due(now: Situation, pace: Pace | None) -> bool:
    """Whether to start a decode, given that none runs. Without a pace only what may become the final is decoded."""
    if covers(now.covered_until, now.speech_end, now.heard_until):
        return False
    if now.silence >= SETTLED:
        return True
    if pace is None or now.silence:
        # The voice is gone for a moment: the pause, if it is one, is not to wait for a decode that has not heard it.
        return False
    return now.heard_until - now.covered_until >= pace.every and now.since_decode_s >= pace.rest * now.decode_s
