"""An OpenTelemetry collector: takes spans by OTLP, and keeps them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.runtime.tracing import ids_of

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Told:
    """A span as it came, and who told it."""

    service: str
    instance: str
    span: Span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def figures(self) -> dict[str, Any]:
        return {each.key: value_of(each.value) for each in self.span.attributes}

    @property
    def events(self) -> dict[str, int]:
        """Name → when, in nanoseconds."""
        return {event.name: event.time_unix_nano for event in self.span.events}

    @property
    def ms(self) -> float:
        return (self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1e6


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Used through `collecting`."""

    told: list[Told] = field(default_factory=list)
    address: str = ""
    calls: int = 0
    silent: bool = False
    """Whether it takes calls and never answers them."""

    async def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any) -> Any:
        self.calls += 1
        if self.silent:
            await asyncio.Event().wait()
        for resource in request.resource_spans:
            labels = {each.key: value_of(each.value) for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.told.append(Told(labels["service.name"], labels["service.instance.id"], span))
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def environment(self) -> dict[str, str]:
        """By which others find it."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.address}", "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def of(self, turn_id: str) -> list[Told]:
        """The spans of a turn's trace."""
        trace_id = ids_of(turn_id).trace.to_bytes(16, "big")
        return [each for each in self.told if each.span.trace_id == trace_id]

    def roots(self) -> list[Told]:
        return [each for each in self.told if not each.span.parent_span_id]

    async def until(self, there: Callable[[], bool]) -> None:
        """Wait for something to be told. Raises TimeoutError with what there is."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not there():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            names = sorted((each.service, each.name) for each in self.told)
            raise TimeoutError(f"only this was told: {names}") from None


def value_of(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


@asynccontextmanager
async def collecting(address: str = "127.0.0.1:0") -> AsyncIterator[Collector]:
    """A collector that listens."""
    server, collector = grpc.aio.server(), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(address)
    collector.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)
