"""The state of the mesh, as a table and as JSON."""

from typing import Any

from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.mesh import phase_name
from talkmesh.model.v1 import model_pb2
from talkmesh.table import table

COLUMNS = ("SERVICE", "HEALTH", "MODEL", "ENGINE", "PHASE", "STREAMS", "MEMORY", "LATENCY", "RESTARTS", "ADDRESS")


def status_json(found: conversation_pb2.GetStatusResponse) -> dict[str, Any]:
    """The state of the mesh as plain values."""
    return {"services": [service_json(service) for service in found.services], "sessions": found.sessions}


def service_json(service: conversation_pb2.ServiceStatus) -> dict[str, Any]:
    return {
        "service": service.service,
        "address": service.address,
        "health": conversation_pb2.Health.Name(service.health).removeprefix("HEALTH_"),
        "latency_ms": round(service.latency_ms, 2),
        "error": service.error,
        "models": [model_json(model) for model in service.models],
    }


def model_json(status: model_pb2.ModelStatus) -> dict[str, Any]:
    return {
        "model": status.model.model,
        "engine": status.model.engine,
        "digest": status.model.digest,
        "slot": status.model.slot,
        "slot_generation": status.model.slot_generation,
        "slots": list(status.slots),
        "preloaded": status.preloaded,
        "phase": phase_name(status.phase),
        "streams": status.streams,
        "pid": status.pid,
        "rss_mb": round(status.rss_bytes / 2**20, 1),
        "vram_mb": round(status.vram_bytes / 2**20, 1),
        "restarts": status.restarts,
        "load_s": round(status.load_seconds, 2),
        "last_error": status.last_error,
    }


def status_table(found: conversation_pb2.GetStatusResponse) -> list[str]:
    """The state of the mesh for a terminal, a line a model."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for service in map(service_json, found.services):
        for model in service["models"] or [None]:
            rows.append(row(service, model))
        notes += [f"{service['service']}: {service['error']}"] if service["error"] else []
        notes += [f"{service['service']}: {m['last_error']}" for m in service["models"] if m["last_error"]]
    return [*table(COLUMNS, rows), f"{found.sessions} sessions", *notes]


def row(service: dict[str, Any], model: dict[str, Any] | None) -> tuple[str, ...]:
    latency = f"{service['latency_ms']:.1f} ms" if service["latency_ms"] else "-"
    if model is None:
        return (service["service"], service["health"], "-", "-", "-", "-", "-", latency, "-", service["address"])
    return (
        service["service"],
        service["health"],
        model["model"],
        model["engine"],
        model["phase"],
        str(model["streams"]),
        f"{model['rss_mb']:.0f} MB",
        latency,
        str(model["restarts"]),
        service["address"],
    )
