"""Silero's speech probability, 32 ms at a time, on a stream."""

from pathlib import Path
from typing import Any

import numpy as np

from services.asr.engine import Samples
from services.runtime.errors import LoadFailed

WINDOW = 512
"""Samples at 16 kHz that get one probability."""
CONTEXT = 64
"""Samples before the window that the model sees again."""
STATE_SHAPE = (1, 1, 128)


def open_session(path: Path) -> Any:
    """An onnxruntime session on one thread, which any number of streams may share. Raises LoadFailed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise LoadFailed(f"Silero model {path.name}: {error}") from error


class SpeechProbabilities:
    """The model's state on one stream."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._hidden = np.zeros(STATE_SHAPE, np.float32)
        self._cell = np.zeros(STATE_SHAPE, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._rest = np.empty(0, np.float32)

    def push(self, samples: Samples) -> list[float]:
        """The probabilities of the windows that `samples` (16 kHz) complete."""
        audio = np.concatenate([self._rest, samples])
        whole = len(audio) // WINDOW * WINDOW
        self._rest = audio[whole:]
        return [self._probability(audio[at : at + WINDOW]) for at in range(0, whole, WINDOW)]

    def _probability(self, window: Samples) -> float:
        inputs = {"input": np.concatenate([self._context, window])[None], "h": self._hidden, "c": self._cell}
        probability, self._hidden, self._cell = self._session.run(None, inputs)
        self._context = window[-CONTEXT:]
        return float(probability[0])
