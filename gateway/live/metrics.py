"""What Prometheus can ask of the live sessions. Labels take few values: no session is one."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.live.load import Load
from talkmesh.conversation.v1 import conversation_pb2

NAMESPACE = "talkmesh_gateway_live"
BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class LiveMetrics:
    """Counts for people, and for `load`, which decides by them."""

    def __init__(self, registry: CollectorRegistry, load: Load) -> None:
        self.load = load

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=NAMESPACE, registry=registry)

        self.sessions = Gauge("sessions", "Live sessions that run.", namespace=NAMESPACE, registry=registry)
        self._refused = counter("refused_total", "Live sessions that were refused because they would not fit.")
        self._pictures = counter("pictures_total", "Pictures by what became of them.", "fate")
        self._replies = counter(
            "speculative_replies_total", "Replies begun on a guess, by what became of them.", "fate"
        )
        self._wasted = counter("speculative_audio_seconds_total", "Speech that was made for nothing.")
        self._holds = counter("holds_total", "Pauses of a reply because the user made a sound, by their end.", "end")
        self._went_on = counter("continued_total", "Turns taken to be over with which the user then went on.")
        self._dry = counter("dry_total", "Pauses of a reply because its audio was not there.")
        self._behind = Histogram(
            "tick_behind_seconds",
            "How late the clock's ticks were.",
            namespace=NAMESPACE,
            registry=registry,
            buckets=BUCKETS_S,
        )

    def refused(self) -> None:
        """There was no room for a session."""
        self._refused.inc()

    def shown(self, size: int, late: bool, draw_s: float) -> None:
        """A picture was released."""
        self._pictures.labels("late" if late else "shown").inc()
        self.load.drawn(size, draw_s)
        (self.load.missed if late else self.load.shown)(time.perf_counter())

    def skipped(self) -> None:
        """A picture was left out."""
        self._pictures.labels("skipped").inc()
        self.load.missed(time.perf_counter())

    def speculated(self, told: conversation_pb2.Speculation) -> None:
        """What a turn has cost in guesses."""
        self._replies.labels("used").inc(max(0, told.begun - told.discarded))
        self._replies.labels("discarded").inc(told.discarded)
        self._wasted.inc(told.discarded_audio_ms / 1000)

    def held(self, interrupted: bool) -> None:
        """A pause of a reply is over."""
        self._holds.labels("interrupted" if interrupted else "resumed").inc()

    def went_on(self) -> None:
        """The user had only paused."""
        self._went_on.inc()

    def ran_dry(self) -> None:
        self._dry.inc()

    def ticked(self, behind_s: float) -> None:
        """A tick of a session's clock came."""
        self._behind.observe(max(0.0, behind_s))
