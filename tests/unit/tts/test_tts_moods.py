"""Moods measured on the audio: pitch by autocorrelation, level, and length of what is voiced."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from services.tts.engine import Emotion, Expression, Samples, TtsEngine
from services.tts.prosody import FULL

Say = Callable[..., Any]
TEXTS = (
    "The weather today is sunny with a light wind from the west.",
    "Yes, of course, I can help you with that question.",
    "My brother bought three large bottles of water at the station.",
    "Please choose a fresh fish dish for the whole family.",
)


def pitch_hz(audio: Samples, rate_hz: int) -> float:
    """The median pitch of the voiced frames, 60 to 400 Hz."""
    frame, found = rate_hz // 25, []
    for start in range(0, len(audio) - frame, rate_hz // 50):
        samples = audio[start : start + frame] - audio[start : start + frame].mean()
        spectrum = np.fft.rfft(samples, 2 * frame)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:frame]
        shortest, longest = rate_hz // 400, rate_hz // 60
        lag = shortest + int(correlation[shortest:longest].argmax())
        if np.square(samples).mean() > 1e-4 and correlation[lag] > correlation[0] / 2:
            found.append(rate_hz / lag)
    return float(np.median(found))


def measured(voice: TtsEngine, say: Say, expression: Expression) -> dict[str, float]:
    voiced = np.concatenate([say(voice, text, expression).voiced for text in TEXTS])
    return {
        "semitones": 12 * np.log2(pitch_hz(voiced, voice.sample_rate_hz)),
        "gain_db": 10 * np.log10(np.square(voiced).mean()),
        "pace": -np.log2(len(voiced)),
    }


@pytest.mark.parametrize("emotion", [emotion for emotion in Emotion if emotion is not Emotion.NEUTRAL])
def test_a_mood_is_heard_and_grows_with_its_intensity(even_voice: TtsEngine, say: Say, emotion: Emotion) -> None:
    neutral, half, full = (measured(even_voice, say, Expression(emotion, level)) for level in (0.0, 0.5, 1.0))
    expected = {
        "semitones": FULL[emotion].semitones,
        "gain_db": FULL[emotion].gain_db,
        "pace": np.log2(FULL[emotion].pace),
    }
    for name, most in expected.items():
        direction = np.sign(most)
        assert direction * neutral[name] < direction * half[name] < direction * full[name], name
        assert full[name] - neutral[name] == pytest.approx(most, rel=0.4, abs=0.1), name


def test_neutral_is_the_voice_itself_at_any_intensity(even_voice: TtsEngine, say: Say) -> None:
    plain, neutral = (say(even_voice, TEXTS[0], Expression(Emotion.NEUTRAL, level)) for level in (0.0, 1.0))
    assert plain.parts[0].phonemes == neutral.parts[0].phonemes
