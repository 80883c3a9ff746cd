"""What Prometheus can ask this gateway. Labels take few values: no session, no host, no model is one."""

import functools
import time
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from gateway.backends import Backends
from gateway.experiments.shadowing import Copying
from gateway.host import Health
from services.runtime import exposition
from talkmesh.conversation.v1 import conversation_pb2

BUCKETS_S = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
NAMESPACE = "talkmesh_gateway"


class Metrics:
    """The gateway's numbers, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=NAMESPACE, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace=NAMESPACE, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, namespace=NAMESPACE, registry=registry, buckets=BUCKETS_S)

        self.sessions = gauge("sessions", "Sessions that have a call now.")
        self._calls = counter("calls_total", "Calls of clients by how they ended.", "code")
        self._turns = counter("turns_total", "Turns by how they ended.", "outcome")
        self._variant_turns = counter(
            "variant_turns_total", "Turns of sessions in an experiment.", "flag", "variant", "outcome"
        )
        self._shadows = counter(
            "shadow_streams_total",
            "Copies of streams that a variant got unseen, by how they ended.",
            *("flag", "variant", "service", "ended"),
        )
        self._ratings = counter("ratings_total", "Feedback of users by variant.", "flag", "variant", "rating")
        self._first_audio = histogram("first_audio_seconds", "From the end of the user's turn to the first audio.")
        self._first_video = histogram("first_video_seconds", "From the end of the user's turn to the first picture.")
        self._streams = counter("streams_total", "Streams to the services that have ended.", "service")
        self._failures = counter(
            "stream_failures_total", "Streams that a service ended with an error.", "service", "code"
        )
        self._reopened = counter("streams_reopened_total", "Streams opened again after one.", "service", "reason")
        self._hosts = gauge("hosts", "Known hosts of a service by health.", "service", "health")

    @functools.cached_property
    def etcd(self) -> "EtcdMetrics":
        """What is known of etcd; absent until it is asked for, since nothing is wrong without etcd."""
        return EtcdMetrics(self.registry)

    def call_ended(self, code: str) -> None:
        """A client's call is over: with a status, or as "CANCELLED" when the client left it."""
        self._calls.labels(code).inc()

    def turn_done(self, done: conversation_pb2.TurnDone) -> None:
        """A turn came to its end."""
        outcome = conversation_pb2.Outcome.Name(done.outcome).removeprefix("OUTCOME_").lower()
        self.turn_ended(outcome)
        for each in done.assignments:
            self._variant_turns.labels(each.flag, each.variant, outcome).inc()
        if done.waterfall.first_audio_ms:
            self._first_audio.observe(done.waterfall.first_audio_ms / 1000)
        if done.waterfall.first_video_ms:
            self._first_video.observe(done.waterfall.first_video_ms / 1000)

    def rated(self, given: Iterable[tuple[str, str]], score: float) -> None:
        """A user gave a score from -1 to 1 to a session with these flags and variants."""
        rating = "good" if score > 0 else "bad" if score < 0 else "neutral"
        for flag, variant in list(given) or [("", "")]:
            self._ratings.labels(flag, variant, rating).inc()

    def turn_ended(self, outcome: str) -> None:
        """A turn is over: with an outcome of its own, "failed", or "abandoned" by its client."""
        self._turns.labels(outcome).inc()

    def shadow_ended(self, of: Copying, ended: str) -> None:
        """A copy of a stream is over."""
        self._shadows.labels(of.flag, of.variant, of.service, ended).inc()

    def stream_ended(self, service: str, code: grpc.StatusCode) -> None:
        """A stream to a service is over. One that the gateway itself has cancelled did not fail."""
        self._streams.labels(service).inc()
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
            self._failures.labels(service, code.name).inc()

    def reopened(self, service: str, reason: str = "drained") -> None:
        """A stream has taken the place of one that a service ended."""
        self._reopened.labels(service, reason).inc()

    def hosts_changed(self, backends: Backends) -> None:
        """A service has other hosts than before, or their health has changed."""
        for health in Health:
            self._hosts.labels(backends.service, health.value).set(backends.count(health))


class EtcdMetrics:
    """How well etcd is seen."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._away_since: float | None = time.monotonic()
        self._up = Gauge("etcd_up", "Whether etcd is seen now.", namespace=NAMESPACE, registry=registry)
        revision = "The newest etcd revision that this gateway has acted on."
        self._revision = Gauge("etcd_revision", revision, namespace=NAMESPACE, registry=registry)
        staleness = "How long etcd has been out of sight; 0 while it is seen."
        Gauge("etcd_staleness_seconds", staleness, namespace=NAMESPACE, registry=registry).set_function(self._stale_s)

    def seen(self, revision: int) -> None:
        """etcd has told everything up to a revision."""
        self._away_since = None
        self._up.set(1)
        self._revision.set(revision)

    def away(self) -> None:
        """etcd is out of sight."""
        if self._away_since is None:
            self._away_since = time.monotonic()
        self._up.set(0)

    def _stale_s(self) -> float:
        """Called on the thread of whoever asks."""
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since


def exposed(address: str, metrics: Metrics) -> AbstractAsyncContextManager[int]:
    """Answer Prometheus at "host:port" (port 0 takes a free one); entered, it gives the port. Raises PortTaken."""
    return exposition.exposed(address, metrics.registry)
