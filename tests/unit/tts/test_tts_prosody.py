"""What a mood does to pace, pitch and level."""

import numpy as np
import pytest

from services.tts.engine import Emotion, Expression
from services.tts.prosody import FULL, KNEE, amplified, prosody_of

MOODS = [emotion for emotion in Emotion if emotion is not Emotion.NEUTRAL]


def test_every_emotion_has_a_prosody_and_neutral_has_none() -> None:
    assert set(FULL) == set(Emotion)
    neutral = prosody_of(Expression(Emotion.NEUTRAL, 1.0))
    assert (neutral.pace, neutral.semitones, neutral.gain_db) == (1, 0, 0)


@pytest.mark.parametrize("emotion", MOODS)
def test_intensity_moves_everything_one_way(emotion: Emotion) -> None:
    steps = [prosody_of(Expression(emotion, intensity)) for intensity in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert steps[0] == prosody_of(Expression())
    for name in ("pace", "semitones", "gain_db"):
        moves = np.diff([getattr(step, name) for step in steps])
        assert (moves > 0).all() or (moves < 0).all()


def test_speaking_rate_and_mood_multiply() -> None:
    assert prosody_of(Expression(Emotion.SAD, 1.0), 1.5).pace == pytest.approx(1.5 * FULL[Emotion.SAD].pace)


def test_gain_is_exact_below_the_knee_and_never_clips() -> None:
    quiet = np.linspace(-0.3, 0.3, 101, dtype=np.float32)
    assert np.allclose(amplified(quiet, 6.0), quiet * 10 ** (6 / 20))
    loud = amplified(np.linspace(-1, 1, 1001, dtype=np.float32), 12.0)
    assert np.abs(loud).max() <= 1.0
    assert (np.diff(loud) >= 0).all()
    assert np.abs(loud).max() > KNEE


def test_no_gain_changes_nothing() -> None:
    samples = np.asarray([0.99, -1.0, 0.5], np.float32)
    assert amplified(samples, 0.0) is samples
