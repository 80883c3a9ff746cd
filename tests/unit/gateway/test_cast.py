"""A call whose experiment's model will not even begin goes on with everybody's, and who is to blame is known."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from gateway import cast
from gateway.addresses import Places
from gateway.cast import Cast
from gateway.experiments.registry import FLAGS, Assigned
from gateway.mesh import Mesh, Seats, ServiceFailed, connected
from gateway.sessions import Session
from gateway.settings import GatewaySettings
from gateway.wishes import Wishes
from services.runtime.etcd import Changes, Event, KeyValue
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.outcomes import Outcome
from tests.fakes.hosts import until
from tests.fakes.small_hosts import Candidate, small_host
from tests.unit.gateway.test_shadowing import FLAG, WITHIN_S

WISHES = Wishes(conversation_pb2.ConversationConfig(), GatewaySettings.model_validate({}))


class Opening:
    """Opens a cast unless what the session has is broken."""

    def __init__(self, broken: set[str]) -> None:
        self.broken = broken
        self.tried: list[str] = []

    async def __call__(self, stack: AsyncExitStack, mesh: Any, wishes: Wishes) -> Cast:
        slot = mesh.place("llm").slot
        self.tried.append(slot)
        if slot in self.broken:
            raise ExceptionGroup("", [ServiceFailed("llm", Outcome(grpc.StatusCode.INTERNAL, "broken", ()))])
        return Cast(mesh)


async def begun(opening: Opening, monkeypatch: pytest.MonkeyPatch, user: str = "tester") -> tuple[Mesh, Session]:
    """A session of a user's, as far as it came."""
    monkeypatch.setattr(cast, "opened_cast", opening)
    async with small_host(candidate=Candidate()) as host, connected({"llm": Places((host.address,))}) as mesh:
        await until(lambda: asyncio.sleep(0, mesh.serves("llm", "candidate")), WITHIN_S)
        kv = KeyValue(f"{FLAGS}words", json.dumps(FLAG | {"state": "on", "forced": {}}), mod_revision=1)
        mesh.experiments.take(FLAGS, Changes(1, (Event(kv),)))
        session = Session("one", assigned=mesh.experiments.assign({"user": user}, {}))
        seats = mesh.seats_of(session, session.assigned or Assigned())
        _ = seats.llm
        async with cast.cast(seats, WISHES):
            return mesh, session


def of_arm(variant: str) -> str:
    """A user who is in an arm."""
    return {"large": "user-0", "small": "user-2"}[variant]


async def test_a_variant_that_does_not_begin_is_left_and_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Opening({"candidate"})
    mesh, session = await begun(opening, monkeypatch, of_arm("large"))
    assert opening.tried == ["candidate", "stable"]
    assert session.assigned and session.assigned.protos() == [], "it has what everybody has"
    trial = mesh.guard.trial("words")
    assert trial and trial.arms["large"].failed == 1


async def test_what_everybody_has_is_not_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Opening({"stable"})
    with pytest.raises(ExceptionGroup):
        await begun(opening, monkeypatch, of_arm("small"))
    assert opening.tried == ["stable"]


async def test_a_variant_is_not_to_blame_for_what_nobody_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    blamed: list[Seats] = []
    monkeypatch.setattr(Seats, "blame_variants", blamed.append)
    opening = Opening({"candidate", "stable"})
    with pytest.raises(ExceptionGroup):
        await begun(opening, monkeypatch, of_arm("large"))
    assert opening.tried == ["candidate", "stable"]
    assert not blamed
