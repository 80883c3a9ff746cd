"""What a call speaks, as spans: one a clause."""

import time

from services.runtime.tracing import StreamTrace
from talkmesh.tts.v1 import tts_pb2


class TrackedClauses:
    """Follows the responses of one call."""

    def __init__(self, trace: StreamTrace, rate_hz: int) -> None:
        self._trace = trace
        self._rate = rate_hz
        self._first: tuple[float, float] | None = None
        """When the clause in progress was first ready to be heard, and after how many milliseconds."""

    def note(self, response: tts_pb2.SynthesizeResponse) -> None:
        """A response is on its way. A clause without anything to say is not told of."""
        if response.HasField("speech"):
            self._first = self._first or (time.perf_counter(), response.speech.engine_ms)
        elif response.HasField("done") and self._first:
            (first, engine_ms), self._first = self._first, None
            done = response.done
            self._trace.done(
                "tts.synthesize",
                response.turn_id,
                first - engine_ms / 1000,
                engine_ms,
                {"first_speech": first},
                clause=done.clause_index,
                audio_ms=1000 * (done.end_sample - done.start_sample) / self._rate,
            )
