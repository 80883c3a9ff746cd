"""What a host counts and measures, for Prometheus. Labels are few: the service is the process, models are few."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from services.runtime.controller import Controller
    from services.runtime.resident import Phase

FORWARDING_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
PHASE_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Meter:
    """A host's own figures, in a registry of their own."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        self._service = service
        self._swaps = Counter(
            "talkmesh_swaps", "Swaps by result: done, failed, overtaken, reverted.", ["service", "result"],
            registry=self.registry,
        )  # fmt: skip
        self._phases = Histogram(
            "talkmesh_swap_phase_seconds", "Time that a model which came to serve spent in each phase.",
            ["service", "phase"], buckets=PHASE_S, registry=self.registry,
        )  # fmt: skip
        self._failures = Counter(
            "talkmesh_stream_failures", "Streams that did not end well, by reason.", ["service", "reason"],
            registry=self.registry,
        )  # fmt: skip
        self._forwarding = Histogram(
            "talkmesh_forwarding_seconds", "From a message of an engine process to its being handed to the caller.",
            ["service"], buckets=FORWARDING_S, registry=self.registry,
        ).labels(service)  # fmt: skip

    def swapped(self, result: str) -> None:
        """Count a swap."""
        self._swaps.labels(self._service, result).inc()

    def took(self, timings: "Mapping[Phase, float]") -> None:
        """The phases of a swap that is done, in seconds."""
        for phase, seconds in timings.items():
            self._phases.labels(self._service, phase.name.lower()).observe(seconds)

    def failed(self, reason: str) -> None:
        """Count a stream that did not end well."""
        self._failures.labels(self._service, reason).inc()

    def forwarded(self, seconds: float) -> None:
        """A message was handed on."""
        self._forwarding.observe(seconds)


class StateCollector(Collector):
    """What a host holds, looked up when it is asked for."""

    def __init__(self, controller: "Controller", stale_s: "Callable[[], float]") -> None:
        self._controller = controller
        self._stale_s = stale_s

    def collect(self) -> Iterable[Metric]:
        service = self._controller.service.name
        streams = GaugeMetricFamily("talkmesh_model_streams", "Streams by model.", labels=["service", "model"])
        resident = GaugeMetricFamily("talkmesh_resident_models", "Models by phase.", labels=["service", "phase"])
        used = GaugeMetricFamily(
            "talkmesh_engine_memory_bytes", "Memory of engine processes.", labels=["service", "model", "kind"]
        )
        generation = GaugeMetricFamily(
            "talkmesh_slot_generation", "What each slot serves.", labels=["service", "slot", "model"]
        )
        phases: dict[str, int] = {}
        for held in list(self._controller.residents):
            streams.add_metric([service, held.model], held.streams)
            used.add_metric([service, held.model, "rss"], held.rss_bytes)
            used.add_metric([service, held.model, "vram"], held.vram_bytes)
            phases[held.phase.name.lower()] = phases.get(held.phase.name.lower(), 0) + 1
        for phase, count in phases.items():
            resident.add_metric([service, phase], count)
        for slot in list(self._controller.slots.values()):
            if slot.serving:
                generation.add_metric([service, slot.name, slot.serving.resident.model], slot.serving.generation)
        lag = GaugeMetricFamily(
            "talkmesh_watch_lag_seconds", "Time since etcd was last followed; 0 while it is.", labels=["service"]
        )
        lag.add_metric([service], self._stale_s())
        return (streams, resident, used, generation, lag)
