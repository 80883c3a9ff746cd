"""Whether somebody has finished, by the sound of their voice: Smart Turn v3 (ONNX, on Whisper's log-mel features)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from services.asr.engine import Samples
from services.asr.resampling import RATE_HZ
from services.asr.silero import open_session
from services.runtime.errors import LoadFailed

LENGTH = 8 * RATE_HZ
"""What it listens to: the last 8 s, with zeros before."""
HOP = 160
LEAST_VARIANCE = 1e-7

Predict = Callable[[Samples], float]


def open_turn_model(path: Path) -> Predict:
    """A function that takes the user's audio so far (16 kHz, ending in a short silence) and tells how likely it is complete,
    0 to 1. Any number of threads may call it. Raises LoadFailed."""
    from faster_whisper.feature_extractor import FeatureExtractor

    extract: Any = FeatureExtractor(chunk_length=8)
    session = open_session(path)
    if [entry.name for entry in session.get_inputs()] != ["input_features"]:
        raise LoadFailed(f"{path.name} is no Smart Turn model")

    def predict(audio: Samples) -> float:
        features = extract(scaled(audio), padding=0)[:, : LENGTH // HOP]
        return float(np.ravel(session.run(None, {"input_features": features[None].astype(np.float32)})[0])[0])

    return predict


def scaled(audio: Samples) -> Samples:
    """The last 8 s with mean 0 and variance 1 (zeros before the audio count)."""
    heard = audio[-LENGTH:]
    padded = np.zeros(LENGTH, np.float32)
    padded[LENGTH - len(heard) :] = heard
    return np.asarray((padded - padded.mean()) / np.sqrt(padded.var() + LEAST_VARIANCE), np.float32)
