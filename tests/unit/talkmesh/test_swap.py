"""How a change of a slot is followed on its way to the hosts, told by what they say of themselves."""

import pytest

from talkmesh.admin.v1 import admin_pb2
from talkmesh.errors import TalkmeshError
from talkmesh.mesh import Mesh
from talkmesh.model.v1 import model_pb2
from talkmesh.swap import HostProgress, Swap, progress

CHANGE = admin_pb2.SlotChange(service="tts", slot="stable", model="joe", generation=10)
FAILED, LOADING, ACTIVE = model_pb2.PHASE_FAILED, model_pb2.PHASE_LOADING, model_pb2.PHASE_ACTIVE


def host(
    generation: int,
    wanted: int,
    phase: "model_pb2.Phase.ValueType" = ACTIVE,
    instance: str = "one",
    slot: str = "stable",
    error: str = "",
) -> model_pb2.HostStatus:
    status = model_pb2.SlotStatus(
        slot=slot,
        model=f"m{generation}",
        generation=generation,
        wanted_model=f"m{wanted}",
        wanted_generation=wanted,
        phase=phase,
        error=error,
        timings=[model_pb2.PhaseSeconds(phase=LOADING, seconds=2), model_pb2.PhaseSeconds(phase=ACTIVE, seconds=90)],
    )
    return model_pb2.HostStatus(service="tts", instance=instance, slots=[status])


def mesh(*hosts: model_pb2.HostStatus) -> Mesh:
    return Mesh({(each.service, each.instance): each for each in hosts})


@pytest.mark.parametrize(
    ("told", "phase", "served", "overtaken_by"),
    [
        (host(9, 9), "", False, 0),
        (host(9, 9, slot="candidate"), "", False, 0),
        (host(8, 9, FAILED, error="of the one before"), "", False, 0),
        (host(9, 10, LOADING), "LOADING", False, 0),
        (host(9, 10, FAILED, error="why"), "FAILED", False, 0),
        (host(10, 10), "ACTIVE", True, 0),
        (host(10, 11, LOADING), "ACTIVE", True, 0),
        (host(10, 11, FAILED, error="of the next"), "ACTIVE", True, 0),
        (host(9, 11, LOADING), "", False, 11),
        (host(11, 11), "", False, 11),
        (host(11, 10, LOADING), "LOADING", False, 0),
    ],
)
def test_where_a_host_stands(told: model_pb2.HostStatus, phase: str, served: bool, overtaken_by: int) -> None:
    found = progress(CHANGE, told)
    assert (found.phase, found.served, found.overtaken_by) == (phase, served, overtaken_by)
    assert found.failed == (phase == "FAILED")
    assert (found.error == "why") == found.failed


def test_a_host_that_does_not_see_etcd_says_so() -> None:
    told = host(9, 9)
    told.freshness = model_pb2.FRESHNESS_STALE
    assert progress(CHANGE, told).error == "it does not see etcd"


def test_time_in_service_is_no_part_of_the_way() -> None:
    assert progress(CHANGE, host(10, 10)).seconds == 2


def test_only_steps_are_told() -> None:
    swap = Swap(CHANGE)
    assert [each.instance for each in swap.take(mesh(host(9, 9), host(9, 9, instance="two")))] == ["one", "two"]
    assert list(swap.take(mesh(host(9, 9), host(9, 9, instance="two")))) == []
    steps = list(swap.take(mesh(host(9, 10, LOADING), host(9, 9, instance="two"))))
    assert [(each.instance, each.phase) for each in steps] == [("one", "LOADING")]


def test_done_when_all_that_are_there_serve_it() -> None:
    swap = Swap(CHANGE)
    assert not swap.done
    list(swap.take(mesh(host(10, 10), host(9, 10, LOADING, "two"))))
    assert not swap.done
    assert swap.missing() == "two: LOADING"
    list(swap.take(mesh(host(10, 10))))
    assert swap.done
    list(swap.take(mesh()))
    assert not swap.done
    assert swap.missing() == "no host of tts is there"


def test_a_failure_and_a_newer_change_end_it() -> None:
    swap = Swap(CHANGE)
    list(swap.take(mesh(host(10, 10), host(9, 10, FAILED, "two", error="no file"))))
    with pytest.raises(TalkmeshError, match="joe failed on two: no file") as caught:
        swap.raise_if_lost()
    assert caught.value.code == "FAILED_PRECONDITION"
    list(swap.take(mesh(host(10, 10), host(9, 12, LOADING, "two"))))
    with pytest.raises(TalkmeshError, match=r"overtaken by 12 \(m12\)") as caught:
        swap.raise_if_lost()
    assert caught.value.code == "ABORTED"
    list(swap.take(mesh(host(10, 12, LOADING))))
    swap.raise_if_lost()


def test_a_mesh_takes_news_and_forgets_who_is_gone() -> None:
    first = Mesh().after(
        admin_pb2.WatchMeshResponse(
            hosts=[host(1, 1), host(1, 1, instance="two")], freshness=model_pb2.FRESHNESS_CURRENT
        )
    )
    news = admin_pb2.WatchMeshResponse(
        hosts=[host(2, 2, instance="two")],
        gone=[admin_pb2.HostName(service="tts", instance="one")],
        freshness=model_pb2.FRESHNESS_STALE,
    )
    second = first.after(news)
    assert {name: each.slots[0].generation for name, each in second.hosts.items()} == {("tts", "two"): 2}
    assert second.freshness == model_pb2.FRESHNESS_STALE
    assert set(first.hosts) == {("tts", "one"), ("tts", "two")}


def test_progress_knows_steps_from_more_of_the_same() -> None:
    slow, slower = HostProgress("one", "LOADING", timings=(("LOADING", 1.0),)), HostProgress("one", "LOADING")
    assert slow.step == slower.step
    assert HostProgress("one", "WARMING").step != slow.step
