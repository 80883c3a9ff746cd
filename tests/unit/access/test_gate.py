"""The gate: keys, limits, and those who try again and again."""

import json
import logging
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.access import needs
from gateway.access.buckets import Buckets
from gateway.access.gate import Gate, OpenSessions
from gateway.access.keys import KEYS, Issued, Key, KeyRing, issue
from gateway.access.principals import EVERYBODY, Limits, Principal, Scope, author, enter
from gateway.access.tokens import Issuer, Tokens
from gateway.sessions import Sessions
from services.runtime.errors import Denied, DomainError, InvalidInput, OverLimit, Unauthenticated, Unavailable
from services.runtime.etcd import Away, Changes, Event, KeyValue, Snapshot

NOW_MS = 1_000_000


def put(issued: Issued, **others: object) -> KeyValue:
    key = Key(**{"name": "ann", "role": "viewer", "sha256": issued.sha256, **others})  # type: ignore[arg-type]  # fields of Key
    return KeyValue(KEYS + issued.id, key.model_dump_json(), 1, 1, 1, 0)


def ring_of(*kvs: KeyValue) -> KeyRing:
    ring = KeyRing(lambda: NOW_MS)
    ring.take(Snapshot(1, {kv.key: kv for kv in kvs}))
    return ring


async def admitted(gate: Gate, token: str, need: needs.Need = needs.VIEWER, peer: str = "10.0.0.1") -> Principal:
    return await gate.admit({"authorization": f"Bearer {token}"} if token else {}, peer, need, "Look")


def test_a_key_has_enough_chance_in_it_and_is_not_kept() -> None:
    one, other = issue(), issue()
    assert one.token != other.token
    assert len(one.token) == len("tmk_") + 12 + 1 + 43
    secret = one.token.split("_", 2)[2]
    assert secret not in put(one).value
    assert one.sha256 not in repr(Key(name="ann", sha256=one.sha256))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"revoked_ms": 1}, "revoked key"),
        ({"expires_ms": NOW_MS}, "expired key"),
        ({"sha256": "1" * 64}, "unknown key"),
        ({"role": "root"}, "unknown key"),
    ],
)
async def test_keys_that_do_not_hold(change: dict[str, object], kind: str) -> None:
    issued = issue()
    kv = put(issued)
    if change == {"role": "root"}:
        kv = KeyValue(kv.key, kv.value.replace("viewer", "root"), 1, 1, 1, 0)
    else:
        kv = put(issued, **change)
    with pytest.raises(Unauthenticated) as caught:
        await admitted(Gate(ring_of(kv), None), issued.token)
    assert caught.value.kind == kind
    assert issued.token not in str(caught.value)


async def test_a_revocation_counts_at_once_and_an_outage_changes_nothing() -> None:
    issued = issue()
    ring = ring_of(put(issued))
    gate = Gate(ring, None)
    ring.take(Away("gone"))
    assert (await admitted(gate, issued.token)).name == "ann"
    ring.take(Changes(2, (Event(put(issued, revoked_ms=1)),)))
    with pytest.raises(Unauthenticated, match="revoked"):
        await admitted(gate, issued.token)


async def test_before_etcd_has_told_nobody_is_blamed() -> None:
    with pytest.raises(Unavailable):
        await admitted(Gate(KeyRing(), None), issue().token)


async def test_what_is_brought_may_come_in_either_header_and_no_other_way() -> None:
    issued = issue()
    gate = Gate(ring_of(put(issued)), None)
    assert await gate.admit({"x-api-key": issued.token}, "p", needs.VIEWER, "Look")
    assert await gate.admit({"authorization": f"bearer {issued.token}"}, "p", needs.VIEWER, "Look")
    for wrong in ({}, {"authorization": f"Basic {issued.token}"}, {"cookie": issued.token}, {"x-api-key": "x" * 9000}):
        with pytest.raises(Unauthenticated):
            await gate.admit(wrong, "p", needs.VIEWER, "Look")


async def test_a_viewer_may_look_and_not_touch() -> None:
    issued = issue()
    gate = Gate(ring_of(put(issued)), None)
    assert await admitted(gate, issued.token)
    with pytest.raises(Denied, match="role operator"):
        await admitted(gate, issued.token, needs.OPERATOR)
    with pytest.raises(Denied):
        await admitted(gate, issued.token, needs.DENIED)


async def test_calls_a_second() -> None:
    issued, now = issue(), [0.0]
    ring = ring_of(put(issued, requests_per_s=2, burst=3))
    gate = Gate(ring, None, requests=Buckets(clock=lambda: now[0]))
    for _ in range(3):
        await admitted(gate, issued.token)
    with pytest.raises(OverLimit) as caught:
        await admitted(gate, issued.token)
    assert caught.value.retry_after_s == pytest.approx(0.5)
    now[0] += 0.51
    await admitted(gate, issued.token)


def test_sessions_at_a_time() -> None:
    sessions, ann = OpenSessions(), Principal("1", "ann", limits=Limits(sessions=1))
    with sessions.one_more(ann):
        with pytest.raises(OverLimit), sessions.one_more(ann):
            pass
        with sessions.one_more(Principal("2", "bob", limits=Limits(sessions=1))):
            pass
    with sessions.one_more(ann):
        pass


async def test_ten_thousand_bad_logins(caplog: pytest.LogCaptureFixture) -> None:
    issued, failures = issue(), Buckets(most=100)
    gate = Gate(ring_of(put(issued)), None, failures=failures)
    caplog.set_level(logging.DEBUG)
    began, kinds = time.monotonic(), set()
    for number in range(10_000):
        with pytest.raises(DomainError) as caught:
            await admitted(gate, issue().token if number % 2 else f"junk-{number}", peer="10.0.0.9")
        kinds.add(type(caught.value))
    assert kinds == {Unauthenticated, OverLimit}
    # The same peer with a key that holds is let in all the same, and so is everybody else.
    assert (await admitted(gate, issued.token, peer="10.0.0.9")).name == "ann"
    assert (await admitted(gate, issued.token)).name == "ann"
    assert len(caplog.records) <= 31 + (time.monotonic() - began)
    for number in range(10_000):
        with pytest.raises(DomainError):
            await admitted(gate, "junk", peer=f"10.{number}")
    assert len(failures) == 100


async def test_tokens_that_hold_come_in_past_those_that_do_not(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    public = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (tmp_path / "jwks").write_text(json.dumps({"keys": [{**public, "kid": "1", "alg": "EdDSA"}]}))
    gate = Gate(None, Tokens(Issuer("me", "talkmesh", str(tmp_path / "jwks"))))
    for number in range(100):
        with pytest.raises(DomainError):
            await admitted(gate, f"junk-{number}", peer="proxy")
    claims = {"iss": "me", "aud": "talkmesh", "sub": "ann", "exp": time.time() + 300, "roles": ["viewer"]}
    token = jwt.encode(claims, key, "EdDSA", {"kid": "1"})
    assert (await admitted(gate, token, peer="proxy")).name == "jwt:ann"
    with pytest.raises(OverLimit):
        await admitted(gate, token[:-8] + "AAAAAAAA", peer="proxy")


async def test_open_lets_everybody_do_everything() -> None:
    assert await Gate(None, None, everybody=True).admit({}, "p", needs.ADMIN, "CreateKey") is EVERYBODY


async def test_without_keys_it_says_how_to_make_one() -> None:
    with pytest.raises(Unauthenticated, match=r"python -m gateway\.access"):
        await admitted(Gate(ring_of(), None), "")
    with pytest.raises(Unauthenticated, match="neither etcd"):
        await admitted(Gate(None, None), "")


async def test_nothing_of_a_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    issued = issue()
    caplog.set_level(logging.DEBUG)
    gate = Gate(ring_of(put(issued), KeyValue(KEYS + "bad", '{"sha256": "feed"}', 1, 1, 1, 0)), None)
    await admitted(gate, issued.token)
    for token in (issued.token + "x", issued.token[:-1] + "!", "secret-thing"):
        with pytest.raises(Unauthenticated):
            await admitted(gate, token)
    assert caplog.records
    for secret in (issued.token.split("_", 2)[2][:20], issued.sha256, "secret-thing", "feed"):
        assert secret not in caplog.text


def test_an_author_is_who_has_shown_who_they_are() -> None:
    assert author("ann@desk") == "ann@desk"
    enter(Principal("1", "bob", scopes=frozenset({Scope.TALK})))
    try:
        assert (author(""), author("bob"), author("ann")) == ("bob", "bob", "bob (says: ann)")
        with pytest.raises(InvalidInput):
            author("a\nb")
    finally:
        enter(EVERYBODY)


async def test_a_conversation_counts_for_whoever_holds_it() -> None:
    sessions = Sessions(9, 60)
    enter(Principal("1", "ann", limits=Limits(sessions=1)))
    try:
        async with sessions.held("") as held:
            with pytest.raises(OverLimit):
                async with sessions.held(""):
                    pass
            enter(Principal("2", "bob", limits=Limits(sessions=1)))
            async with sessions.held(""):
                pass
        enter(Principal("1", "ann", limits=Limits(sessions=1)))
        async with sessions.held(held.id):
            pass
    finally:
        enter(EVERYBODY)
