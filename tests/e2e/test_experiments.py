"""Two voices in one mesh: who hears which is settled by a flag in etcd, while everybody goes on talking."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.runtime.desired import PREFIX
from services.runtime.etcd import Etcd, EtcdSettings, connected
from talkmesh import Client, SessionConfig, TalkmeshError, TurnDone, User
from talkmesh.control import Admin

READY_S = 60.0
FLAG = {
    "owner": "test",
    "rule": 'country == "CN" and device == "phone"',
    "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
    "control": "heart",
    "enrolled": [[0, 1_000_000]],
}


@pytest.fixture
async def etcd(addresses: dict[str, str]) -> AsyncIterator[Etcd]:
    async with connected(EtcdSettings.model_validate({"endpoints": addresses["etcd"]})) as made:
        yield made


@asynccontextmanager
async def written(etcd: Etcd, **values: Any) -> AsyncIterator[None]:
    """Keys below PREFIX, gone on leaving. Slashes are written as two underscores."""
    keys = {PREFIX + name.replace("__", "/"): value for name, value in values.items()}
    for key, value in keys.items():
        await etcd.put(key, json.dumps(value))
    try:
        yield
    finally:
        for key in keys:
            await etcd.delete(key)


async def turn(mesh: str, user: str, country: str = "CN") -> TurnDone:
    """A user's first words and what becomes of them."""
    who = User(user, attributes={"country": country, "device": "phone"})
    config = SessionConfig(user=who, video=False, max_reply_tokens=4, seed=1)
    async with Client(mesh) as client, client.session(config) as session:
        done = [event async for event in session.ask("Hello.") if isinstance(event, TurnDone)]
        assert session.started.assignments == done[0].assignments
    return done[0]


def voice(done: TurnDone) -> str:
    return next(model.name for model in done.models if model.service == "tts")


def variants(done: TurnDone) -> dict[str, tuple[str, str]]:
    return {each.flag: (each.variant, each.reason) for each in done.assignments}


async def until(mesh: str, user: str, holds: Callable[[TurnDone], bool]) -> TurnDone:
    async with asyncio.timeout(READY_S):
        while not holds(done := await turn(mesh, user)):
            await asyncio.sleep(0.5)
    return done


async def test_two_voices_at_a_time_by_flag_and_one_again_without(mesh: str, etcd: Etcd) -> None:
    assert variants(await turn(mesh, "alice")) == {}
    async with written(etcd, slots__tts__candidate={"model": "joe"}), written(etcd, flags__voice=FLAG):
        await until(mesh, "alice", lambda done: "voice" in variants(done))
        users = [f"user-{number}" for number in range(12)]
        found = {user: await turn(mesh, user) for user in users}
        given = {user: variants(done)["voice"][0] for user, done in found.items()}
        assert {user: voice(done) for user, done in found.items()} == given, "each hears what it was given"
        assert set(given.values()) == {"heart", "joe"}
        assert {variants(done)["voice"][1] for done in found.values()} == {"SPLIT"}
        assert variants(await turn(mesh, "abroad", country="US")) == {}
        again = {user: variants(await turn(mesh, user))["voice"][0] for user in users[:4]}
        assert again.items() <= given.items()
        listener = next(user for user, name in given.items() if name == "joe")
        who = User(listener, attributes={"country": "CN", "device": "phone"})
        config = SessionConfig(user=who, video=False, max_reply_tokens=4)
        async with Client(mesh) as client, client.session(config) as session:
            before = [event async for event in session.ask("Hello.") if isinstance(event, TurnDone)]
            await etcd.put(f"{PREFIX}flags/voice", json.dumps(FLAG | {"state": "off"}))
            await until(mesh, listener, lambda done: not done.assignments)
            after = [event async for event in session.ask("Hello.") if isinstance(event, TurnDone)]
        assert (voice(before[0]), voice(after[0])) == ("joe", "heart")
    assert voice(await turn(mesh, listener)) == "heart"


async def test_an_attribute_that_is_not_known_is_refused(mesh: str) -> None:
    config = SessionConfig(user=User("alice", attributes={"contry": "CN"}), video=False)
    async with Client(mesh) as client:
        with pytest.raises(TalkmeshError) as caught:
            async with client.session(config):
                pass
    assert caught.value.field == "who.attributes['contry']"


async def test_a_shadow_is_told_everything_and_heard_by_nobody(mesh: str, etcd: Etcd) -> None:
    shadow = FLAG | {"state": "shadow", "arms": {"heart": [[0, 1]], "joe": [[1, 1_000_000]]}}
    async with written(etcd, slots__tts__candidate={"model": "joe"}), written(etcd, flags__voice=shadow):
        async with Admin(mesh) as admin, asyncio.timeout(READY_S):
            while not (found := [each for each in await admin.flags() if not each.lacks and not each.problem]):
                await asyncio.sleep(0.5)
            while not sum(found[0].shadows[0].streams.values() if found[0].shadows else ()):
                done = await turn(mesh, "alice")
                assert (voice(done), variants(done)) == ("heart", {})
                found = [each for each in await admin.flags() if each.flag == "voice"]
        (figures,) = found[0].shadows
        assert (figures.variant, figures.service) == ("joe", "tts")
        assert figures.streams["ok"] == figures.pairs >= 1
        assert figures.live_ms > 0 and figures.shadow_ms > 0
