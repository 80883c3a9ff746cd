"""What Prometheus can ask about the keeping of outcomes."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.metrics import NAMESPACE


class Figures:
    """How many outcomes went where."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"outcomes_{name}_total", text, labels, namespace=NAMESPACE, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"outcomes_{name}", text, namespace=NAMESPACE, registry=registry)

        self.written = counter("written", "Outcomes that the store has taken.")
        self.spooled = counter("spooled", "Outcomes that were put on disk because the store was away.")
        self.deleted = counter("deleted", "Rows that were deleted for their age.")
        self._dropped = counter("dropped", "Outcomes that were lost.", "why")
        self.waiting = gauge("waiting", "Outcomes in memory that nobody has taken yet.")
        self.spool_bytes = gauge("spool_bytes", "Outcomes on disk that wait for the store.")
        self.store_up = gauge("store_up", "Whether the store took what it was last given.")
        for why in ("full", "spool full", "unreadable", "unfit"):
            self._dropped.labels(why)

    def dropped(self, why: str, count: int = 1) -> None:
        """Lost: memory was "full", or the "spool full", or what lay there "unreadable", or the store found it "unfit"."""
        if count:
            self._dropped.labels(why).inc(count)

    def watch(self, waiting: Callable[[], float], spool_bytes: Callable[[], float]) -> None:
        """Where the gauges come from."""
        self.waiting.set_function(waiting)
        self.spool_bytes.set_function(spool_bytes)
