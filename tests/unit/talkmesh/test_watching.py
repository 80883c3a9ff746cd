"""The state of the mesh as rows, lines and JSON."""

import re

from talkmesh.mesh import Mesh
from talkmesh.model.v1 import model_pb2
from talkmesh.watching import changes_json, changes_text, host_rows, mesh_table


def model(name: str, phase: "model_pb2.Phase.ValueType", streams: int = 0, rss_mb: int = 50) -> model_pb2.ModelStatus:
    serving = model_pb2.ServingModel(service="tts", model=name, engine="any")
    return model_pb2.ModelStatus(model=serving, phase=phase, streams=streams, rss_bytes=rss_mb * 2**20)


def host(*models: model_pb2.ModelStatus, slot: model_pb2.SlotStatus | None = None) -> model_pb2.HostStatus:
    return model_pb2.HostStatus(
        service="tts",
        instance="one",
        freshness=model_pb2.FRESHNESS_CURRENT,
        slots=[slot] if slot else [],
        models=models,
    )


SWAPPING = model_pb2.SlotStatus(
    slot="stable",
    model="heart",
    generation=3,
    wanted_model="joe",
    wanted_generation=4,
    phase=model_pb2.PHASE_LOADING,
    error="waits for room",
)


def of(told: model_pb2.HostStatus) -> Mesh:
    return Mesh({("tts", "one"): told}, model_pb2.FRESHNESS_CURRENT)


def test_a_row_for_each_slot_and_each_other_model() -> None:
    told = host(
        model("heart", model_pb2.PHASE_ACTIVE, 2),
        model("joe", model_pb2.PHASE_LOADING),
        model("ann", model_pb2.PHASE_DRAINING, 1, rss_mb=0),
        slot=SWAPPING,
    )
    assert host_rows(told) == [
        ("tts", "one", "stable", "heart", "3", "joe (4)", "LOADING", "2", "50 MB", "CURRENT", "waits for room"),
        ("tts", "one", "-", "joe", "-", "-", "LOADING", "0", "50 MB", "CURRENT", "-"),
        ("tts", "one", "-", "ann", "-", "-", "DRAINING", "1", "-", "CURRENT", "-"),
    ]


def test_a_host_with_nothing_is_there_all_the_same() -> None:
    assert len(mesh_table(of(host()))[2:]) == 1
    assert "one" in mesh_table(of(host()))[2]


def test_problems_are_told_under_the_table() -> None:
    told = host()
    told.problems.add(key="/talkmesh/v1/slots/tts/stable", field="modle", reason="not known")
    assert mesh_table(of(told), "a note")[-1] == "/talkmesh/v1/slots/tts/stable: modle not known"
    assert "a note" in mesh_table(of(told), "a note")[0]


def test_memory_alone_is_no_change_but_streams_are() -> None:
    before = of(host(model("joe", model_pb2.PHASE_STANDBY, 1, 50)))
    assert list(changes_text(before, of(host(model("joe", model_pb2.PHASE_STANDBY, 1, 51))))) == []
    lines = list(changes_text(before, of(host(model("joe", model_pb2.PHASE_STANDBY, 0, 51)))))
    assert len(lines) == 1
    assert re.search(r"tts one  joe  STANDBY  0 streams", lines[0])


def test_json_tells_hosts_that_changed_those_gone_and_etcd() -> None:
    before = of(host(slot=SWAPPING))
    assert list(changes_json(before, before)) == []
    told = list(changes_json(Mesh(), before))
    assert told[0] == {"etcd": "CURRENT"}
    assert told[1]["slots"][0]["wanted_model"] == "joe"
    assert list(changes_json(before, Mesh({}, model_pb2.FRESHNESS_STALE))) == [
        {"etcd": "STALE"},
        {"service": "tts", "instance": "one", "gone": True},
    ]
