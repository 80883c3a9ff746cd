"""A real gateway before a real etcd: who may call it, over gRPC and HTTP, and what is told of whom."""

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio

from gateway.access.key_control import KeyControl, Wanted
from gateway.access.keys import KEYS
from services.runtime import desired
from services.runtime.desired import AuditEntry
from services.runtime.etcd import Etcd, connected, etcd_settings
from talkmesh import Client, TalkmeshError
from talkmesh.admin.v1 import admin_pb2
from talkmesh.broadcast import Live
from talkmesh.control import Admin
from tests.fakes.etcd import etcd_server
from tests.fakes.hosts import ROOT, until
from tests.fakes.operators import write_catalog
from tests.mesh.test_gateway_hosts import Gateway, gateway_process
from tests.unit.access.test_tokens import AUDIENCE, ISSUER, R1, STRANGER, signed
from tools.etcd import LocalEtcd

pytestmark = pytest.mark.mesh
WITHIN_S = 20.0


@dataclass
class Place:
    """A gateway, its etcd, and those who have keys."""

    gateway: Gateway
    server: LocalEtcd
    etcd: Etcd
    address: str
    http: str
    tokens: dict[str, str]
    ids: dict[str, str]

    def admin(self, who: str) -> Admin:
        return Admin(self.address, f"{who}-says", token=self.tokens[who])

    async def key(self, name: str, role: str = "", *scopes: str, **limits: float) -> None:
        """Make a key, and wait until the gateway lets its holder in or refuses it for what it may do."""
        issued, _ = await KeyControl(self.etcd).create(Wanted(name, role, scopes, **limits))  # type: ignore[arg-type]  # fields of Wanted
        self.tokens[name], self.ids[name] = issued.token, issued.id

    async def code(self, who: str, want: str = "") -> str:
        """What a look at the catalog ends with; waits until it is `want`, if given."""

        async def found() -> str:
            try:
                async with self.admin(who) as admin:
                    await admin.catalog()
            except TalkmeshError as error:
                return error.code
            return "OK"

        if want:

            async def so() -> bool:
                return await found() == want

            await until(so, WITHIN_S)
        return await found()


@asynccontextmanager
async def place(*arguments: str) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(etcd_server())
        etcd = await stack.enter_async_context(connected(etcd_settings(server.endpoint)))
        await write_catalog(etcd)
        options = (f"--etcd={server.endpoint}", "--http=127.0.0.1:0", *arguments)
        gateway = await stack.enter_async_context(gateway_process(*options, access="required"))
        address, http = await gateway.at("listening on"), await gateway.at("HTTP on")
        made = Place(gateway, server, etcd, address, f"http://{http}", {"nobody": ""}, {})
        for name, role, scope in (("vera", "viewer", ()), ("otto", "operator", ()), ("ada", "admin", ("talk",))):
            await made.key(name, role, *scope)
        await made.code("ada", "OK")
        yield made


@pytest.fixture
async def here() -> AsyncIterator[Place]:
    async with place() as made:
        yield made


async def swap(here: Place, who: str) -> str:
    try:
        async with here.admin(who) as admin:
            await admin.set_slot("tts", "joe")
    except TalkmeshError as error:
        return error.code
    return "OK"


async def test_roles_keys_and_their_ends(here: Place) -> None:
    assert [await here.code(who) for who in ("nobody", "vera", "otto", "ada")] == ["UNAUTHENTICATED", "OK", "OK", "OK"]
    assert [await swap(here, who) for who in ("nobody", "vera")] == ["UNAUTHENTICATED", "PERMISSION_DENIED"]
    assert await here.etcd.get(desired.slot_key("tts")) is None
    assert await swap(here, "otto") == "OK"
    await here.key("brief", "viewer", expires_in_s=3)
    await here.code("brief", "UNAUTHENTICATED")
    here.tokens["forger"] = here.tokens["ada"][:-6] + "AAAAAA"
    here.tokens["jwt"] = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ."
    assert [await here.code(who) for who in ("forger", "jwt")] == ["UNAUTHENTICATED"] * 2
    async with here.admin("ada") as admin:
        await admin.revoke_key(here.ids["otto"], reason="left")
    await here.code("otto", "UNAUTHENTICATED")
    assert await swap(here, "otto") == "UNAUTHENTICATED"


async def test_the_author_is_whoever_has_the_key(here: Place) -> None:
    assert await swap(here, "otto") == "OK"
    async with here.admin("ada") as admin:
        made = await admin.create_key(admin_pb2.CreateKeyRequest(name="kim", role="viewer", reason="new here"))
        assert made.token.startswith(f"tmk_{made.key.id}_")
        with pytest.raises(TalkmeshError, match="already"):
            await admin.create_key(admin_pb2.CreateKeyRequest(name="kim", role="viewer"))
        with pytest.raises(TalkmeshError) as caught:
            await admin.create_key(admin_pb2.CreateKeyRequest(name="lee", role="root"))
        assert caught.value.field == "role"
        await admin.revoke_key(made.key.id)
        listed = {key.name: key for key in await admin.keys()}
        assert listed["kim"].revoked_ms
        assert listed["kim"].created_by == "ada (says: ada-says)"
    audit = [
        desired.parsed(AuditEntry, each.value)
        for each in sorted((await here.etcd.list(f"{desired.PREFIX}audit/")).kvs, key=lambda kv: kv.mod_revision)
    ]
    told = [(each.action, each.actor) for each in audit if each.actor]
    assert told == [
        ("set slot", "otto (says: otto-says)"),
        ("create key", "ada (says: ada-says)"),
        ("revoke key", "ada (says: ada-says)"),
    ]
    everything = json.dumps([each.value for each in (await here.etcd.list(desired.PREFIX)).kvs])
    assert made.token.split("_", 2)[2] not in everything
    async with here.admin("otto") as admin:
        with pytest.raises(TalkmeshError) as caught:
            await admin.keys()
        assert caught.value.code == "PERMISSION_DENIED"


async def test_scopes_over_grpc(here: Place) -> None:
    async with Live(here.address, token=here.tokens["otto"]) as live:
        assert await live.sessions() == []
        with pytest.raises(TalkmeshError) as caught:
            await live.open()
        assert caught.value.code == "PERMISSION_DENIED"
        assert "scope talk" in str(caught.value)
    async with Client(here.address, token=here.tokens["vera"]) as client:
        await client.status()
        with pytest.raises(TalkmeshError) as caught:
            async with client.session():
                pass
        assert caught.value.code == "PERMISSION_DENIED"


async def test_http(here: Place) -> None:
    async with httpx2.AsyncClient(base_url=here.http, timeout=20) as client:

        async def get(path: str, who: str = "nobody", method: str = "GET") -> httpx2.Response:
            headers = {"Authorization": f"Bearer {here.tokens[who]}"} if here.tokens[who] else {}
            return await client.request(method, path, headers=headers)

        assert [(await get(path)).status_code for path in ("/", "/api/config", "/static/js/main.js")] == [200] * 3
        refused = await get("/api/sessions")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.json()["error"]["code"] == "UNAUTHENTICATED"
        denied = await get("/api/sessions", "vera")
        assert (denied.status_code, denied.json()["error"]["code"]) == (403, "PERMISSION_DENIED")
        assert (await get("/api/sessions", "otto")).json() == {"sessions": []}
        assert (await client.get("/api/sessions", headers={"x-api-key": here.tokens["otto"]})).status_code == 200
        # Ways around: other spellings of a path, other methods, what there is not.
        for path in ("/api/sessions/", "//api/sessions", "/api/../api/sessions", "/API/sessions", "/api%2Fsessions"):
            assert (await get(path)).status_code in (401, 404), path
        assert (await get("/api/sessions", method="OPTIONS")).status_code == 401
        assert (await get("/whip", method="POST")).status_code == 401
        assert (await get("/whip", "otto", method="POST")).status_code == 403
        assert (await get("/live/guessed/index.m3u8")).status_code == 404
        for path in ("/api/admin/slots", "/ofrep/v1/evaluate/flags", "/api/admin/keys"):
            assert (await get(path)).status_code == 401
        assert (await get("/api/admin/keys", "otto")).status_code == 403
        put: Any = {"json": {"model": "joe", "actor": "the boss"}}
        slot, key = "/api/admin/slots/tts/stable", "x-api-key"
        assert (await client.put(slot, **put)).status_code == 401
        assert (await client.put(slot, **put, headers={key: here.tokens["vera"]})).status_code == 403
        assert (await client.put(slot, **put, headers={key: here.tokens["otto"]})).status_code < 300
    async with here.admin("vera") as admin:
        assert [each.actor for each in await admin.history("tts")] == ["otto (says: the boss)"]


async def test_limits_of_a_key(here: Place) -> None:
    await here.key("slow", "operator", requests_per_s=0.2, burst=2)
    await here.code("slow", "RESOURCE_EXHAUSTED")
    async with httpx2.AsyncClient(base_url=here.http, headers={"x-api-key": here.tokens["slow"]}) as client:
        refused = await client.get("/api/sessions")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    assert await here.code("vera") == "OK"


async def test_without_etcd_the_keys_known_last_go_on(here: Place) -> None:
    await here.server.kill()
    async with Client(here.address, token=here.tokens["vera"]) as client:
        await client.status()
    with pytest.raises(TalkmeshError) as caught:
        async with Client(here.address) as client:
            await client.status()
    assert caught.value.code == "UNAUTHENTICATED"
    await here.server.start()
    await KeyControl(here.etcd).revoke(here.ids["vera"])
    await here.code("vera", "UNAUTHENTICATED")


async def test_nothing_of_a_key_is_in_the_log() -> None:
    async with place("--log-level=DEBUG") as here:
        await swap(here, "otto")
        await here.code("vera")
        secret = "A" * 43
        here.tokens["forger"] = f"tmk_{here.ids['ada']}_{secret}"
        assert await here.code("forger") == "UNAUTHENTICATED"
        async with httpx2.AsyncClient(base_url=here.http) as client:
            for token in (*filter(None, here.tokens.values()), "junk-token"):
                await client.get("/api/sessions", headers={"Authorization": f"Bearer {token}"})
        log = "".join(here.gateway.log)
        assert "refused: unknown key" in log
        hashes = re.findall(r'"sha256":"([0-9a-f]{64})"', "".join(kv.value for kv in (await here.etcd.list(KEYS)).kvs))
        secrets = [token.split("_", 2)[2] for token in here.tokens.values() if token]
        for each in (*secrets, *hashes, "junk-token"):
            assert each[:20] not in log


async def test_health_is_for_everybody_and_nobody_else_without_keys() -> None:
    async with gateway_process(access="required") as gateway:
        address = await gateway.at("listening on")
        with pytest.raises(TalkmeshError, match="neither etcd") as caught:
            async with Client(address) as client:
                await client.status()
        assert caught.value.code == "UNAUTHENTICATED"
        assert any("nobody has access to this gateway" in line for line in gateway.log)
        async with grpc.aio.insecure_channel(address) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert await check(b"", timeout=WITHIN_S) is not None


async def test_open_says_so() -> None:
    async with gateway_process() as gateway:
        async with Client(await gateway.at("listening on")) as client:
            await client.status()
        assert any("ACCESS IS OPEN" in line for line in gateway.log)


async def test_the_first_key_is_made_at_etcd_and_the_next_by_the_command_line(here: Place, tmp_path: Path) -> None:
    file = tmp_path / "token"
    bootstrap = (*("-m", "gateway.access", f"--etcd={here.server.endpoint}", "--name=root", "--role=admin"),)
    made = await ran(*bootstrap, f"--token-file={file}")
    assert made.returncode == 0, made.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    here.tokens["root"] = file.read_text().strip()
    assert here.tokens["root"] not in made.stdout + made.stderr
    await here.code("root", "OK")
    cli = ("-m", "talkmesh", "--address", here.address, "--token-file", str(file), "key")
    created = await ran(*cli, "create", "kim", "--role", "viewer", "--expires", "30d", "--rate", "5", "--json")
    assert created.returncode == 0, created.stderr
    key = json.loads(created.stdout)
    here.tokens["kim"] = key["token"]
    await here.code("kim", "OK")
    listed = await ran(*cli, "list")
    assert re.search(rf"{key['id']} +kim +viewer +- +5 ", listed.stdout)
    assert key["token"].split("_", 2)[2] not in listed.stdout
    assert (await ran(*cli, "revoke", key["id"])).returncode == 0
    await here.code("kim", "UNAUTHENTICATED")
    assert (await ran(*bootstrap)).returncode == 1


async def ran(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("TALKMESH_TOKEN")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_tokens_of_an_identity_provider(tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": [R1]}))
    options = (f"--jwt-issuer={ISSUER}", f"--jwt-audience={AUDIENCE}", f"--jwt-jwks={jwks}")
    async with place(*options) as here:
        here.tokens |= {"jwt": signed(), "old": signed(exp=1), "other": signed(aud="other"), "forged": signed(STRANGER)}
        assert [await here.code(who) for who in ("jwt", "old", "other", "forged")] == ["OK", *["UNAUTHENTICATED"] * 3]
        assert await swap(here, "jwt") == "OK"
        async with here.admin("ada") as admin:
            assert (await admin.history("tts"))[0].actor == "jwt:ann (says: jwt-says)"
        async with httpx2.AsyncClient(base_url=here.http) as client:
            shown = {"Authorization": f"Bearer {here.tokens['jwt']}"}
            assert (await client.get("/api/sessions", headers=shown)).status_code == 200
        log = "".join(here.gateway.log)
        assert not any(here.tokens[who].split(".")[2] in log for who in ("jwt", "old", "other", "forged"))


@pytest.mark.parametrize(
    "asked",
    [
        "GET /static/../api/admin/flags",
        "GET /static/%2e%2e/api/admin/flags",
        "GET /live/x/../../api/admin/flags",
        "GET //api/admin/flags",
        "GET /api/admin%2Fflags",
        "GET http://elsewhere/api/admin/flags",
        "get /api/admin/flags",
        "HEAD /api/admin/flags",
        "OPTIONS /api/admin/flags",
        "GET /static/%2e%2e/app.py",
    ],
)
async def test_paths_that_are_not_what_they_seem(barred: str, asked: str) -> None:
    name, _, port = barred.rpartition(":")
    # By hand: a client would tidy the path up.
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(f"{asked} HTTP/1.1\r\nHost: {barred}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), WITHIN_S)
    writer.close()
    assert answer.split(b" ")[1] in (b"401", b"404"), answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def barred() -> AsyncIterator[str]:
    """host:port of the HTTP side of a gateway that lets nobody in."""
    async with gateway_process("--http=127.0.0.1:0", access="required") as gateway:
        yield await gateway.at("HTTP on")
