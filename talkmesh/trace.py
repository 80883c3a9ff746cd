"""What an answer was meant to look like, kept for evaluation: phonemes and face frames by sample."""

import json
from typing import Any

from talkmesh import events


class Trace:
    """Collects a session's events; `json` is what `tools.eval --trace` reads."""

    def __init__(self, portrait: str) -> None:
        self._content: dict[str, Any] = {"portrait": portrait, "phonemes": [], "frames": []}

    def add(self, event: events.Event) -> None:
        """Take an event."""
        content = self._content
        match event:
            case events.Started():
                content["sample_rate_hz"] = event.sample_rate_hz
                content["fps"] = [event.fps.numerator, event.fps.denominator]
                content["blendshape_names"] = list(event.blendshape_names)
                content["size"] = event.width
            case events.Phonemes():
                content["phonemes"] += [
                    {"phoneme": p.text, "start_sample": p.start_sample, "end_sample": p.end_sample}
                    for p in event.phonemes
                ]
            case events.FaceFrame():
                frame = {"start_sample": event.start_sample, "weights": [round(w, 4) for w in event.weights]}
                content["frames"].append(frame)

    def json(self) -> str:
        """The trace as JSON."""
        return json.dumps(self._content)
