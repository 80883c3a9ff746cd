"""The state of the mesh as a live table, as lines of what has changed, and as JSON."""

import time
from collections.abc import Iterator
from typing import Any

from talkmesh.mesh import Mesh, freshness_name, phase_name
from talkmesh.model.v1 import model_pb2
from talkmesh.status import model_json
from talkmesh.table import cell, mebibytes, table

COLUMNS = ("SERVICE", "HOST", "SLOT", "MODEL", "GEN", "WANTED", "PHASE", "STREAMS", "MEMORY", "ETCD", "ERROR")
MEMORY = COLUMNS.index("MEMORY")
Row = tuple[str, ...]


def mesh_table(mesh: Mesh, note: str = "") -> list[str]:
    """Every host for a terminal: a row a slot, and a row a model that is in no slot (yet, or any more)."""
    rows = [row for host in mesh.hosts.values() for row in host_rows(host)]
    seen = f"{time.strftime('%H:%M:%S')}  {len(mesh.hosts)} hosts, etcd as the gateway sees it: "
    state = freshness_name(mesh.freshness) or "unknown"
    problems = (f"{p.key}: {p.field} {p.reason}" for host in mesh.hosts.values() for p in host.problems)
    return [f"{seen}{state}{f' ({note})' if note else ''}", *table(COLUMNS, rows), *dict.fromkeys(problems)]


def host_rows(host: model_pb2.HostStatus) -> list[Row]:
    models = {status.model.model: status for status in host.models}
    serving = {slot.model for slot in host.slots}
    slots = [slot_row(host, slot, models.get(slot.model)) for slot in host.slots]
    others = [model_row(host, status) for name, status in models.items() if name not in serving]
    return slots + others or [(host.service, host.instance, *["-"] * 7, freshness_name(host.freshness), "-")]


def slot_row(host: model_pb2.HostStatus, slot: model_pb2.SlotStatus, model: model_pb2.ModelStatus | None) -> Row:
    """A slot, with the figures of the model that serves it. The phase is that of the model wanted."""
    there = slot.wanted_generation == slot.generation
    return (
        host.service,
        host.instance,
        slot.slot,
        cell(slot.model),
        str(slot.generation),
        "-" if there else f"{slot.wanted_model} ({slot.wanted_generation})",
        cell(phase_name(slot.phase)),
        str(model.streams) if model else "-",
        mebibytes(model.rss_bytes) if model else "-",
        freshness_name(host.freshness),
        cell(slot.error or (model.last_error if model else "")),
    )


def model_row(host: model_pb2.HostStatus, model: model_pb2.ModelStatus) -> Row:
    """A model that serves no slot: on its way up, standing by or draining."""
    return (
        host.service,
        host.instance,
        "-",
        model.model.model,
        "-",
        "-",
        cell(phase_name(model.phase)),
        str(model.streams),
        mebibytes(model.rss_bytes),
        freshness_name(host.freshness),
        cell(model.last_error),
    )


def changes_text(before: Mesh, mesh: Mesh) -> Iterator[str]:
    """A line for each row that is another now; memory alone is no change."""
    now = time.strftime("%H:%M:%S")
    if before.freshness != mesh.freshness:
        yield f"{now}  etcd as the gateway sees it: {freshness_name(mesh.freshness)}"
    for name, host in mesh.hosts.items():
        old = {without_memory(row) for row in host_rows(before.hosts[name])} if name in before.hosts else set()
        for row in host_rows(host):
            if without_memory(row) not in old:
                yield f"{now}  {row_text(row)}"
    for service, instance in before.hosts.keys() - mesh.hosts.keys():
        yield f"{now}  {service} {instance} is gone"


def without_memory(row: Row) -> Row:
    return row[:MEMORY] + row[MEMORY + 1 :]


def row_text(row: Row) -> str:
    """A row in one line, without columns to hold it together."""
    service, host, slot, model, generation, wanted, phase, streams, memory, freshness, error = row
    parts = [f"{service} {host}", f"slot {slot}" if slot != "-" else "", model if model != "-" else ""]
    parts += [
        f"generation {generation}" if generation not in ("-", "0") else "",
        f"wants {wanted}" if wanted != "-" else "",
    ]
    parts += [phase, f"{streams} streams" if streams != "-" else "", memory, freshness, error]
    return "  ".join(part for part in parts if part not in ("", "-"))


def changes_json(before: Mesh, mesh: Mesh) -> Iterator[dict[str, Any]]:
    """What has changed: hosts as they are now, those that are gone, and how the gateway sees etcd."""
    if before.freshness != mesh.freshness:
        yield {"etcd": freshness_name(mesh.freshness)}
    for name, host in mesh.hosts.items():
        if before.hosts.get(name) != host:
            yield host_json(host)
    for service, instance in sorted(before.hosts.keys() - mesh.hosts.keys()):
        yield {"service": service, "instance": instance, "gone": True}


def host_json(host: model_pb2.HostStatus) -> dict[str, Any]:
    return {
        "service": host.service,
        "instance": host.instance,
        "address": host.address,
        "freshness": freshness_name(host.freshness),
        "revision": host.revision,
        "slots": [slot_json(slot) for slot in host.slots],
        "models": [model_json(model) for model in host.models],
        "problems": [{"key": p.key, "field": p.field, "reason": p.reason} for p in host.problems],
    }


def slot_json(slot: model_pb2.SlotStatus) -> dict[str, Any]:
    return {
        "slot": slot.slot,
        "model": slot.model,
        "generation": slot.generation,
        "wanted_model": slot.wanted_model,
        "wanted_generation": slot.wanted_generation,
        "phase": phase_name(slot.phase),
        "error": slot.error,
        "timings_s": {phase_name(each.phase): round(each.seconds, 3) for each in slot.timings},
        "rss_before_mb": round(slot.rss_before_bytes / 2**20, 1),
        "rss_after_mb": round(slot.rss_after_bytes / 2**20, 1),
    }
