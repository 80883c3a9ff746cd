"""The control plane, OFREP and the OpenFeature provider over real connections, on a real etcd."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent

from gateway.experiments.registry import FLAGS, Registry
from services.runtime import channels, desired
from services.runtime.etcd import Etcd, connected, etcd_settings
from talkmesh.admin.v1 import admin_pb2_grpc
from talkmesh.openfeature import TalkmeshProvider
from tests.fakes.sites import administered_site
from tools.etcd import running_etcd

VOICE: dict[str, Any] = {
    "owner": "me",
    "rule": 'country == "CN"',
    "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
    "control": "heart",
    "enrolled": [[0, 500_000]],
}
WITHIN_S = 20.0


@dataclass
class Site:
    """A gateway's HTTP side and its AdminService, on one etcd."""

    client: httpx2.AsyncClient
    etcd: Etcd
    address: str
    registry: Registry
    admin_server: grpc.aio.Server

    async def put(self, name: str = "voice", **fields: Any) -> httpx2.Response:
        found = await self.client.put(f"/api/admin/flags/{name}", json=VOICE | fields)
        assert found.status_code == 200, found.text
        async with asyncio.timeout(WITHIN_S):
            while self.registry.revision(name) < found.json()["revision"]:
                await asyncio.sleep(0.01)
        return found

    async def asked(self, path: str, context: Any, **headers: str) -> httpx2.Response:
        return await self.client.post(f"/ofrep/v1/evaluate/{path}", json={"context": context}, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running_etcd(tmp_path_factory.mktemp("http-admin") / "etcd", sync=False) as server:
        yield server.endpoint


@pytest.fixture
async def web(server: str) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(connected(etcd_settings(server)))
        await etcd.delete(desired.PREFIX, prefix=True)
        port, admin = await stack.enter_async_context(administered_site(etcd))
        grpc_server = channels.server()
        admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, grpc_server)
        grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
        await grpc_server.start()
        stack.push_async_callback(grpc_server.stop, 0)
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
        await stack.enter_async_context(client)
        yield Site(
            client,
            etcd,
            f"127.0.0.1:{grpc_port}",
            admin.of.flags.registry,
            grpc_server,
        )


def wrong(response: httpx2.Response, status: int, code: str, field: str | None = None) -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert (error["code"], error.get("field")) == (code, field), response.text


async def test_a_slot_is_set_compared_and_rolled_back(web: Site) -> None:
    first = await web.client.put("/api/admin/slots/tts/stable", json={"model": "heart", "reason": "begin"})
    assert first.status_code == 200, first.text
    wish = {"model": "joe", "expected_model": "heart", "actor": "alice", "reason": "warmer"}
    change = (await web.client.put("/api/admin/slots/tts/stable", json=wish)).json()
    assert (change["model"], change["model_before"], change["actor"], change["cause"]) == (
        *("joe", "heart", "alice"),
        "CAUSE_HUMAN",
    )
    wrong(await web.client.put("/api/admin/slots/tts/stable", json=wish), 409, "ABORTED")
    back = await web.client.post("/api/admin/slots/tts/stable/rollback", json={"reason": "too warm"})
    assert back.json()["model"] == "heart"
    history = (await web.client.get("/api/admin/history/tts/stable")).json()["changes"]
    assert [each["model"] for each in history] == ["heart", "joe", "heart"]
    entries = (await web.client.get("/api/admin/audit?limit=2")).json()["entries"]
    assert [(each["before"], each["after"]) for each in entries] == [("joe", "heart"), ("heart", "joe")]
    older = (await web.client.get("/api/admin/audit", params={"before": entries[1]["place"]})).json()["entries"]
    assert [each["reason"] for each in older] == ["begin"]
    (host,) = (await web.client.get("/api/admin/hosts")).json()["hosts"]
    assert (host["instance"], host["slots"][0]["model"], host["slots"][0]["phase"]) == (
        "tts-1",
        "heart",
        "PHASE_ACTIVE",
    )
    listed = (await web.client.get("/api/admin/models?service=tts")).json()["models"]
    assert {each["model"] for each in listed} == {"heart", "joe", "ann"}


async def test_a_veto_and_a_preload_come_and_go(web: Site) -> None:
    for kind in ("vetoes", "preloads"):
        assert (await web.client.put(f"/api/admin/{kind}/tts/ann", json={"reason": "why"})).status_code == 204
        listed = (await web.client.get("/api/admin/models?service=tts")).json()["models"]
        ann = next(each for each in listed if each["model"] == "ann")
        assert ann["veto"] if kind == "vetoes" else ann["preload"]
        assert (await web.client.delete(f"/api/admin/{kind}/tts/ann?reason=done")).status_code == 204
    assert (await web.client.post("/api/admin/evictions/tts/ann", json={})).status_code == 204
    wrong(await web.client.post("/api/admin/evictions/tts/heart", json={}), 409, "FAILED_PRECONDITION")


async def test_a_flag_is_changed_only_where_it_stands(web: Site) -> None:
    written = await web.put(actor="alice", reason="warmer?")
    etag, path = written.headers["etag"], "/api/admin/flags/voice"
    found = await web.client.get(path)
    assert found.headers["etag"] == etag
    assert json.loads(found.json()["json"])["reason"] == "warmer?"
    again = {"If-None-Match": "*"}
    wrong(await web.client.put(path, json=VOICE, headers=again), 412, "ABORTED", "If-Match")
    changed = await web.client.put(path, json=VOICE | {"state": "held"}, headers={"If-Match": etag})
    assert changed.status_code == 200
    wrong(await web.client.put(path, json=VOICE, headers={"If-Match": etag}), 412, "ABORTED", "If-Match")
    wrong(await web.client.delete(path, headers={"If-Match": etag}), 412, "ABORTED", "If-Match")
    wrong(
        await web.client.put(path, json=VOICE, headers={"If-Match": "yesterday"}), 400, "INVALID_ARGUMENT", "If-Match"
    )
    gone = await web.client.delete(f"{path}?reason=over", headers={"If-Match": changed.headers["etag"]})
    assert gone.status_code == 204
    wrong(await web.client.get(path), 404, "NOT_FOUND")
    assert (await web.client.get("/api/admin/audit?limit=1")).json()["entries"][0]["action"] == "delete flag"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"rule": "contry == 'CN'"}, "rule"),
        ({"enrolled": [[0, 1_000_001]]}, "enrolled"),
        ({"owner": ""}, "owner"),
        ({"control": "leo"}, "value"),
        ({"salt": 5}, "salt"),
        ({"guardrails": [{"metric": "turn_failed", "alpha": "0.05"}]}, "guardrails.0.alpha"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_bad_flag_is_refused_by_field(web: Site, fields: dict[str, Any], field: str) -> None:
    response = await web.client.put("/api/admin/flags/voice", json=VOICE | fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["field"] in (field, "body"), response.text
    assert not (await web.etcd.list(FLAGS)).kvs


async def test_what_is_too_large_or_no_name_is_refused_before_it_is_read(web: Site) -> None:
    large = json.dumps(VOICE | {"description": "x" * 10_000_000}).encode()
    response = await web.client.put(
        "/api/admin/flags/voice", content=large, headers={"Content-Type": "application/json"}
    )
    wrong(response, 413, "INVALID_ARGUMENT", "body")
    for name in ("..%2fvoice", "%2e%2e", "a%00b", "a%0ab", "x" * 64, "-x", "ä"):
        response = await web.client.put(f"/api/admin/flags/{name}", json=VOICE)
        assert response.status_code in (400, 404, 405), (name, response.text)
    assert not (await web.etcd.list(FLAGS)).kvs


async def test_a_winner_is_promoted_and_the_verdict_told(web: Site) -> None:
    for slot, model in (("stable", "heart"), ("candidate", "joe")):
        await web.client.put(f"/api/admin/slots/tts/{slot}", json={"model": model})
    await web.put()
    response = await web.client.post("/api/admin/flags/voice/promote", json={"variant": "joe", "reason": "warmer"})
    (change,) = response.json()["changes"]
    assert (change["slot"], change["model"]) == ("stable", "joe")
    (verdict,) = (await web.client.get("/api/admin/verdicts?flag=voice")).json()["verdicts"]
    assert (verdict["action"], verdict["models"]) == ("promote", {"tts": "joe"})
    wrong(await web.client.get("/api/admin/flags/voice/results"), 409, "FAILED_PRECONDITION")


async def test_ten_thousand_flags_are_told_in_pages_and_decided(web: Site) -> None:
    value = json.dumps(VOICE)
    names = [f"flag-{number:05d}" for number in range(10_000)]
    for start in range(0, len(names), 500):
        await asyncio.gather(*(web.etcd.put(FLAGS + name, value) for name in names[start : start + 500]))
    async with asyncio.timeout(120):
        while len(web.registry.names) < len(names):
            await asyncio.sleep(0.1)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = (await web.client.get("/api/admin/flags", params={"limit": 1000, "after": after})).json()
        found += [each["flag"] for each in page["flags"]]
        assert page["total"] == len(names)
        after = page["next"]
    assert found == names
    one = await web.client.post("/api/admin/decide", json={"user_id": "x", "flag": "flag-09999"})
    assert one.json()["decisions"][0]["flag"] == "flag-09999"
    given = web.registry.assign({"user": "x"}, {"country": "CN"})
    assert len(given.decisions) <= 1, "they are all about the same service"


async def test_ofrep_says_what_the_gateway_decides(web: Site) -> None:
    await web.put()
    await web.put("off", state="off")
    for number in range(40):
        context = {"targetingKey": f"user-{number}", "country": "CN", "theirs": {"deep": [1]}, "turns": "many"}
        evaluated = (await web.asked("flags/voice", context)).json()
        decision = web.registry.decide("voice", {"user": f"user-{number}"}, {"country": "CN"})
        assert evaluated.get("variant", "") == evaluated.get("value", "") == decision.variant
        assert evaluated["reason"] == decision.reason.value
    everything = await web.asked("flags", {"targetingKey": "user-0", "country": "CN"})
    assert {each["key"]: each["reason"] for each in everything.json()["flags"]}["off"] == "DISABLED"
    etag = everything.headers["etag"]
    same = await web.asked("flags", {"targetingKey": "user-0", "country": "CN"}, **{"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    await web.put(state="off")
    other = await web.asked("flags", {"targetingKey": "user-0", "country": "CN"}, **{"If-None-Match": etag})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("path", "context", "status", "code"),
    [
        ("flags/voice", {"country": "CN"}, 400, "TARGETING_KEY_MISSING"),
        ("flags/voice", {"targetingKey": 5}, 400, "INVALID_CONTEXT"),
        ("flags/voice", "alice", 400, "INVALID_CONTEXT"),
        ("flags/nothing", {"targetingKey": "alice"}, 404, "FLAG_NOT_FOUND"),
        ("flags", {}, 400, "TARGETING_KEY_MISSING"),
    ],
)
async def test_ofrep_says_what_is_wrong(web: Site, path: str, context: Any, status: int, code: str) -> None:
    await web.put()
    response = await web.asked(path, context)
    assert (response.status_code, response.json()["errorCode"]) == (status, code)
    unread = await web.client.post(f"/ofrep/v1/evaluate/{path}", content=b"{")
    assert (unread.status_code, unread.json()["errorCode"]) == (400, "PARSE_ERROR")


async def test_the_provider_decides_as_the_gateway_does(web: Site) -> None:
    await web.put(guardrails=[])
    events: list[ProviderEvent] = []

    def note(event: ProviderEvent) -> Any:
        def noted(details: EventDetails) -> None:
            events.append(event)

        return noted

    provider = TalkmeshProvider(web.address, poll_s=0.1)
    await asyncio.to_thread(api.set_provider_and_wait, provider, "mesh")
    client = api.get_client("mesh")
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, note(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED))
    try:
        seen = set()
        for number in range(1_000):
            context = EvaluationContext(f"user-{number}", {"country": "CN" if number % 3 else "US"})
            details = client.get_string_details("voice", "default", context)
            attributes = {"country": "CN" if number % 3 else "US"}
            decision = web.registry.decide("voice", {"user": f"user-{number}"}, attributes)
            assert (details.variant or "", details.reason) == (decision.variant, decision.reason.value)
            assert details.value == (decision.variant or "default")
            seen.add(details.value)
        assert seen == {"default", "heart", "joe"}
        joe = next(f"user-{n}" for n in range(1_000) if variant_of(web, f"user-{n}") == "joe")
        context = EvaluationContext(joe, {"country": "CN"})
        assert client.get_boolean_value("voice", False, context) is True
        found = client.get_object_value("voice", {}, context)
        assert found == {"variant": "joe", "slots": {"tts": "candidate"}, "bundle": None}
        wrong_type = client.get_integer_details("voice", 7, context)
        assert (wrong_type.value, wrong_type.error_code) == (7, "TYPE_MISMATCH")
        assert client.get_string_details("nothing", "x", context).error_code == "FLAG_NOT_FOUND"
        await web.put(state="off")
        async with asyncio.timeout(WITHIN_S):
            while client.get_string_details("voice", "x", context).reason != "DISABLED":
                await asyncio.sleep(0.05)
        assert ProviderEvent.PROVIDER_CONFIGURATION_CHANGED in events
    finally:
        await asyncio.to_thread(api.shutdown)
        api.clear_providers()


def variant_of(web: Site, user: str) -> str:
    return web.registry.decide("voice", {"user": user}, {"country": "CN"}).variant


async def test_the_provider_goes_on_without_the_gateway_and_says_so(web: Site) -> None:
    await web.put(rule="", enrolled=[[0, 1_000_000]])
    stale = asyncio.Event()
    loop = asyncio.get_running_loop()
    provider = TalkmeshProvider(web.address, poll_s=0.1)
    await asyncio.to_thread(api.set_provider_and_wait, provider, "alone")
    client = api.get_client("alone")

    def noted(details: EventDetails) -> None:
        loop.call_soon_threadsafe(stale.set)

    client.add_handler(ProviderEvent.PROVIDER_STALE, noted)
    try:
        before = client.get_string_value("voice", "", EvaluationContext("alice"))
        await web.admin_server.stop(0)
        await asyncio.wait_for(stale.wait(), WITHIN_S)
        details = client.get_string_details("voice", "", EvaluationContext("alice"))
        assert (details.value, details.reason) == (before, "STALE")
    finally:
        await asyncio.to_thread(api.shutdown)
        api.clear_providers()
