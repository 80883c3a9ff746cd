"""Spans on their way to an OpenTelemetry collector. Imported only where traces are wanted.

What the environment can say: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, set_span_in_context

from services.runtime.tracing import ENDPOINTS, Span, TraceIds

DELAY_MS = 1000
"""So long spans wait for company, unless $OTEL_BSP_SCHEDULE_DELAY says otherwise: an engine process ends quickly."""
TALKATIVE = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal")
log = logging.getLogger(__name__)


class TurnIds(RandomIdGenerator):
    """Gives a root the ids that follow from its turn."""

    def __init__(self) -> None:
        self.root: TraceIds | None = None
        """Of the next span, which is a root; None if it is not."""

    def generate_trace_id(self) -> int:
        return self.root.trace if self.root else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.root.root if self.root else super().generate_span_id()


class LastWords(logging.Filter):
    """Keeps what a logger says, instead of having it told at every attempt."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = record.getMessage()
        return False


class Delivery(SpanExporter):
    """An exporter that tells once when its collector is away, and once when it is back."""

    def __init__(self, inner: SpanExporter) -> None:
        self.is_away = False
        self._inner = inner
        self._closed = False
        self._words = LastWords()
        for name in TALKATIVE:
            logging.getLogger(name).addFilter(self._words)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        away = result is not SpanExportResult.SUCCESS
        if away is not self.is_away and not self._closed:
            self.is_away = away
            if away:
                log.warning("traces get lost until the collector is back: %s", self._words.text)
            else:
                log.info("traces reach the collector again")
        return result

    def shutdown(self) -> None:
        """End an attempt in progress, and make no more."""
        if not self._closed:
            self._closed = True
            self._inner.shutdown()

    def fall_silent(self) -> None:
        """The last attempt is over: what others say from now on is theirs to tell."""
        for name in TALKATIVE:
            logging.getLogger(name).removeFilter(self._words)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


class Exporter:
    """Sends spans from a thread of its own. The queue is bounded: when it is full, the oldest go."""

    def __init__(self, name: str) -> None:
        """`name` is the service's. Raises what the environment's values deserve."""
        self._ids = TurnIds()
        delay_ms = float(os.environ.get("OTEL_BSP_SCHEDULE_DELAY") or DELAY_MS)
        instance = f"{socket.gethostname()}-{os.getpid()}"
        self._provider = TracerProvider(
            sampler=sampler(),
            resource=Resource.create({"service.name": name, "service.instance.id": instance}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        # Last, since it begins a thread: what is wrong with the environment has shown by then.
        self._delivery = Delivery(OTLPSpanExporter())
        self._processor = BatchSpanProcessor(self._delivery, schedule_delay_millis=delay_ms)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("talkmesh")
        log.info("traces go to %s", collector())

    def write(self, ids: TraceIds, spans: tuple[Span, ...], root: Span | None) -> None:
        """See Sink."""
        # Once for all of them: spans that touch shall touch, whatever happens to the wall clock.
        epoch_ns = time.time_ns() - time.perf_counter_ns()
        if root:
            self._ids.root = ids
            try:
                self._write(root, Context(), epoch_ns)
            finally:
                self._ids.root = None
        # Every process decides by the trace's id alone, so the root's flag can be said without asking.
        above = SpanContext(ids.trace, ids.root, is_remote=root is None, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        context = set_span_in_context(NonRecordingSpan(above), Context())
        for span in spans:
            self._write(span, context, epoch_ns)

    def _write(self, span: Span, context: Context, epoch_ns: int) -> None:
        def wall_ns(at: float) -> int:
            return epoch_ns + round(at * 1e9)

        figures = {f"talkmesh.{name}": value for name, value in span.figures.items()}
        made = self._tracer.start_span(span.name, context, attributes=figures, start_time=wall_ns(span.began))
        for name, at in span.events.items():
            made.add_event(name, timestamp=wall_ns(at))
        if span.failed:
            made.set_status(StatusCode.ERROR)
        made.end(wall_ns(span.ended))

    async def close(self, within_s: float) -> None:
        """Send what waits, unless that takes longer or nobody would hear it."""
        if not self._delivery.is_away:
            # On a thread that nobody waits for: an attempt can take longer than there is.
            flushing = threading.Thread(target=self._processor.force_flush, daemon=True)
            flushing.start()
            await asyncio.to_thread(flushing.join, within_s)
        self._delivery.shutdown()
        await asyncio.to_thread(self._provider.shutdown)
        self._delivery.fall_silent()


def sampler() -> Sampler:
    """What $OTEL_TRACES_SAMPLER and its argument ask for: all traces, none, or a share of them told by their ids.

    "parentbased_…" is the same here, since all processes decide alike.
    """
    asked = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower().removeprefix("parentbased_")
    share = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if asked == "always_off":
        return ALWAYS_OFF
    if asked == "always_on" or not share:
        return ALWAYS_ON
    return TraceIdRatioBased(float(share))


def collector() -> str:
    """host:port of the collector; never more of its address, which may hold a secret."""
    address = next(os.environ[name] for name in ENDPOINTS if os.environ.get(name))
    parts = urlsplit(address if "://" in address else f"//{address}")
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
