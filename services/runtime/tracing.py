"""Traces: one a turn, over all processes.

The trace of a turn follows from the turn's id, which every service is told with its work. So nothing has to be handed on
from call to call, and a stream that outlives a turn still puts its work into the right trace. Off unless
$OTEL_EXPORTER_OTLP_ENDPOINT names a collector; nothing is imported then. What people say is never in a trace.
"""

import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from talkmesh.model.v1 import model_pb2

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
NO_TURN = ("", "-")
"""Turn ids that stand for none: what was heard between turns, or is to be forgotten."""
FLUSH_S = 1.5
Figure = str | int | float | bool
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TraceIds:
    """Ids of a turn's trace (128 bits) and of its root span (64 bits)."""

    trace: int
    root: int


def ids_of(turn_id: str) -> TraceIds:
    """The same in every process."""
    digest = hashlib.sha256(f"talkmesh turn {turn_id}".encode()).digest()
    return TraceIds(int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big"))


@dataclass(frozen=True)
class Span:
    """Work that is over. Times are seconds of time.perf_counter."""

    name: str
    began: float
    ended: float
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """Attributes, named without the "talkmesh." before them."""
    events: Mapping[str, float] = field(default_factory=dict)
    """What happened meanwhile, and when."""
    failed: bool = False


class Sink(Protocol):
    """Where spans go. It waits for nothing, and is called on the event loop's thread only."""

    def write(self, ids: TraceIds, spans: tuple[Span, ...], root: Span | None) -> None: ...


SINKS: list[Sink] = []
"""Of this process: none while tracing is off."""


def is_on() -> bool:
    """Whether it is of any use to write spans."""
    return bool(SINKS)


def write(turn_id: str, *spans: Span, root: Span | None = None) -> None:
    """Put spans into the trace of a turn, below its root; `root` only where the turn itself is made."""
    if SINKS and turn_id not in NO_TURN:
        for sink in SINKS:
            sink.write(ids_of(turn_id), spans, root)


class StreamTrace:
    """Writes what one stream of an engine process does for turns, with the model that does it."""

    def __init__(self, model: model_pb2.ServingModel) -> None:
        self._labels: dict[str, Figure] = {
            "model": model.model,
            "slot": model.slot,
            "generation": model.slot_generation,
        }
        self._turn_id = ""

    def done(
        self,
        name: str,
        turn_id: str,
        began: float,
        engine_ms: float,
        events: Mapping[str, float] | None = None,
        **figures: Figure,
    ) -> None:
        """Work that began at `began` (seconds of perf_counter) and is over now."""
        if SINKS:
            told = {**self._labels, "engine_ms": engine_ms, **figures}
            write(turn_id, Span(name, began, time.perf_counter(), told, events or {}))

    def first(self, name: str, turn_id: str, engine_ms: float) -> None:
        """Work of `engine_ms` that is over now. For what comes many times a second: the first of each turn is written."""
        if turn_id and turn_id != self._turn_id and SINKS:
            self._turn_id = turn_id
            self.done(name, turn_id, time.perf_counter() - engine_ms / 1000, engine_ms)


def is_wanted() -> bool:
    """Whether the environment asks for traces, and in a way that can be had."""
    environment = os.environ
    if not any(environment.get(name) for name in ENDPOINTS):
        return False
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
        return False
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), "grpc")
    if protocol != "grpc":
        log.warning("no traces: they are sent by gRPC only, and the environment asks for %s", protocol)
        return False
    return True


@asynccontextmanager
async def exported(service: str, flush_s: float = FLUSH_S) -> AsyncIterator[None]:
    """Send what is written during the body to the collector, in the background, as the service "talkmesh-{service}".

    On leaving, what waits gets `flush_s` to be sent. A collector that is away costs spans and nothing else; an environment
    that makes no sense is logged, and there are no traces.
    """
    if not is_wanted():
        yield
        return
    try:
        from services.runtime.otlp import Exporter

        exporter = Exporter(f"talkmesh-{service}")
    except Exception as error:
        log.error("no traces: %s: %s", type(error).__name__, error)
        yield
        return
    SINKS.append(exporter)
    try:
        yield
    finally:
        SINKS.remove(exporter)
        await exporter.close(flush_s)
