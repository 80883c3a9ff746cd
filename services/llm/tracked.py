"""What a stream writes, as spans: one a reply."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from services.runtime.tracing import Figure, StreamTrace
from talkmesh.llm.v1 import llm_pb2


class TrackedReplies:
    """Made by `tracked`."""

    def __init__(self, trace: StreamTrace) -> None:
        self._trace = trace
        self._first: tuple[float, llm_pb2.TextDelta] | None = None
        """When the reply in progress began to come, and with what."""

    def note(self, response: llm_pb2.GenerateResponse) -> None:
        """A response is on its way."""
        if response.HasField("delta"):
            self._first = self._first or (time.perf_counter(), response.delta)
        elif response.HasField("finished"):
            finished = response.finished
            reason = llm_pb2.FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_").lower()
            self.end(finish_reason=reason, prompt_tokens=finished.prompt_tokens, reply_tokens=finished.reply_tokens)

    def end(self, **figures: Figure) -> None:
        """The reply in progress is over. Of one without a word nothing is told: nobody waits for it either."""
        if self._first:
            first, delta = self._first
            began = first - delta.engine_ms / 1000
            engine_ms = 1000 * (time.perf_counter() - began)
            self._trace.done("llm.generate", delta.turn_id, began, engine_ms, {"first_token": first}, **figures)
            self._first = None


@contextmanager
def tracked(trace: StreamTrace) -> Iterator[TrackedReplies]:
    """For the time of a stream. A reply that is in progress at its end was cut short: not wanted any more, or failed."""
    replies = TrackedReplies(trace)
    try:
        yield replies
    finally:
        replies.end(cut_short=True)
