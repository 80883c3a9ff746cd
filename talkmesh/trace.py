"""What an answer was meant to look like, kept for evaluation: phonemes and face frames by sample."""

import json
import math
from typing import Any

from talkmesh import events

HOP_MS = 10


class Trace:
    """Collects a session's events; `json` is what `tools.eval --trace` reads."""

    def __init__(self) -> None:
        self._content: dict[str, Any] = {"phonemes": [], "frames": []}
        self._pcm = bytearray()

    def add(self, event: events.Event) -> None:
        """Take an event."""
        content = self._content
        match event:
            case events.Started():
                content["sample_rate_hz"] = event.sample_rate_hz
                content["fps"] = [event.fps.numerator, event.fps.denominator]
                content["blendshape_names"] = list(event.blendshape_names)
                content["portrait"], content["size"] = event.portrait, event.width
            case events.Audio(start_sample, data):
                del self._pcm[2 * start_sample :]
                self._pcm.extend(bytes(2 * start_sample - len(self._pcm)))
                self._pcm.extend(data)
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
        return json.dumps(self._content | ({"audio_energy": self._energy()} if self._pcm else {}))

    def _energy(self) -> dict[str, Any]:
        """The loudness of the audio that was sent: RMS, 0 to 1, of each 10 ms."""
        hop = self._content["sample_rate_hz"] * HOP_MS // 1000
        samples = memoryview(bytes(self._pcm)).cast("h")
        hops = (samples[at : at + hop] for at in range(0, len(samples), hop))
        rms = [math.sqrt(sum(sample * sample for sample in part) / len(part)) / 32768 for part in hops]
        return {"start_sample": 0, "hop_samples": hop, "rms": [round(value, 5) for value in rms]}
