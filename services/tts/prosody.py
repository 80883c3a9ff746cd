"""How a mood sounds: faster or slower, higher or lower, louder or softer.

| emotion   | pace  | pitch, semitones | level, dB |
|-----------|-------|------------------|-----------|
| neutral   | 1     | 0                | 0         |
| happy     | 1.08  | +2.0             | +1.5      |
| sad       | 0.84  | -2.0             | -4        |
| angry     | 1.12  | +1.0             | +4        |
| surprised | 1.05  | +3.0             | +2.5      |
| fearful   | 1.18  | +2.5             | -2        |
| disgusted | 0.90  | -1.5             | -1.5      |

These are the values at intensity 1. In between pace goes geometrically, pitch and level linearly. For happy, sad,
angry and fearful the directions are those of Juslin and Laukka (Psychological Bulletin 129, 2003); the sizes are kept
small, because a voice that is moved further starts to sound like somebody else.
"""

from dataclasses import dataclass

import numpy as np

from services.tts.engine import Emotion, Expression, Samples

KNEE = 0.7
"""Amplitude up to which `amplified` is linear."""


@dataclass(frozen=True)
class Prosody:
    """`pace` multiplies the speed, `semitones` are added to the pitch, `gain_db` to the level."""

    pace: float = 1.0
    semitones: float = 0.0
    gain_db: float = 0.0

    @property
    def pitch_ratio(self) -> float:
        return float(2.0 ** (self.semitones / 12))


FULL: dict[Emotion, Prosody] = {
    Emotion.NEUTRAL: Prosody(),
    Emotion.HAPPY: Prosody(1.08, 2.0, 1.5),
    Emotion.SAD: Prosody(0.84, -2.0, -4.0),
    Emotion.ANGRY: Prosody(1.12, 1.0, 4.0),
    Emotion.SURPRISED: Prosody(1.05, 3.0, 2.5),
    Emotion.FEARFUL: Prosody(1.18, 2.5, -2.0),
    Emotion.DISGUSTED: Prosody(0.90, -1.5, -1.5),
}


def prosody_of(expression: Expression, speaking_rate: float = 1.0, gain_db: float = 0.0) -> Prosody:
    """The prosody of a mood, on top of the call's speaking rate and the voice's own gain."""
    full, intensity = FULL[expression.emotion], expression.intensity
    return Prosody(
        pace=speaking_rate * full.pace**intensity,
        semitones=full.semitones * intensity,
        gain_db=gain_db + full.gain_db * intensity,
    )


def amplified(samples: Samples, gain_db: float) -> Samples:
    """`samples` louder by `gain_db`; what would go over the knee is bent towards 1 and never clips. 0 dB changes nothing."""
    if gain_db == 0:
        return samples
    louder = samples * np.float32(10 ** (gain_db / 20))
    level = np.abs(louder)
    bent = KNEE + (1 - KNEE) * np.tanh((level - KNEE) / (1 - KNEE))
    return np.where(level > KNEE, np.sign(louder) * bent, louder).astype(np.float32)
