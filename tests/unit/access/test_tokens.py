"""Tokens of an identity provider: which hold, which do not, and what is made of their claims."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.access.principals import Role, Scope
from gateway.access.tokens import FRESH_S, Issuer, Tokens
from services.runtime.errors import InvalidInput, Unauthenticated, Unavailable

ISSUER, AUDIENCE = "https://id.example", "talkmesh"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk(algorithm: Any, key: Any, kid: str, name: str) -> dict[str, Any]:
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": name, "use": "sig"}


R1 = jwk(jwt.algorithms.RSAAlgorithm, RSA, "r1", "RS256")
E1 = jwk(jwt.algorithms.ECAlgorithm, EC, "e1", "ES256")
D1 = jwk(jwt.algorithms.OKPAlgorithm, ED, "d1", "EdDSA")


class Provider:
    """A JWKS in a file, and what is told about the time."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "jwks.json"
        self.now = 0.0
        self.publish(R1, E1, D1)

    def publish(self, *keys: dict[str, Any]) -> None:
        self.file.write_text(json.dumps({"keys": keys}))

    def tokens(self, **options: Any) -> Tokens:
        return Tokens(Issuer(ISSUER, AUDIENCE, str(self.file), **options), lambda: self.now)


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    return Provider(tmp_path)


def claims(**others: Any) -> dict[str, Any]:
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "exp": time.time() + 300,
        "roles": ["operator"],
        "scope": "talk",
    }
    return {name: value for name, value in {**made, **others}.items() if value is not None}


def signed(key: Any = RSA, algorithm: str = "RS256", kid: str = "r1", **others: Any) -> str:
    return jwt.encode(claims(**others), key, algorithm, {"kid": kid} if kid else None)


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "r1"), (EC, "ES256", "e1"), (ED, "EdDSA", "d1")])
async def test_tokens_of_each_algorithm_hold(provider: Provider, key: Any, algorithm: str, kid: str) -> None:
    found = await provider.tokens().principal(signed(key, algorithm, kid))
    assert (found.name, found.role, found.scopes) == ("jwt:ann", Role.OPERATOR, frozenset({Scope.TALK}))


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (lambda: signed(exp=time.time() - 60), "expired token"),
        (lambda: signed(aud="other"), "InvalidAudienceError"),
        (lambda: signed(iss="https://evil.example"), "InvalidIssuerError"),
        (lambda: signed(nbf=time.time() + 90), "ImmatureSignatureError"),
        (lambda: signed(exp=None), "MissingRequiredClaimError"),
        (lambda: signed(sub=None), "MissingRequiredClaimError"),
        (lambda: signed(sub="a\nb"), "subject"),
        (lambda: signed(STRANGER), "InvalidSignatureError"),
        (lambda: signed(EC, "ES256", "r1"), "InvalidAlgorithmError"),
        (lambda: signed(kid="nobody"), "unknown kid"),
        (lambda: signed(kid=""), "unknown kid"),
        (lambda: jwt.encode(claims(), "", "none"), "algorithm"),
        (lambda: jwt.encode(claims(), RSA, "RS512", {"kid": "r1"}), "algorithm"),
        (lambda: confused(RSA), "algorithm"),
        (lambda: "a.b.c", "DecodeError"),
        (lambda: "what", "DecodeError"),
    ],
)
async def test_what_does_not_hold(provider: Provider, token: Any, kind: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await provider.tokens().principal(token())
    assert caught.value.kind == kind


def confused(key: rsa.RSAPrivateKey) -> str:
    """Signed by HMAC with the public key, which everybody has."""
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def encoded(part: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")

    text = encoded({"alg": "HS256", "typ": "JWT", "kid": "r1"}) + b"." + encoded(claims())
    seal = base64.urlsafe_b64encode(hmac.new(public, text, hashlib.sha256).digest()).rstrip(b"=")
    return (text + b"." + seal).decode()


async def test_a_changed_claim_breaks_the_seal(provider: Provider) -> None:
    head, _, seal = signed().split(".")
    forged = base64.urlsafe_b64encode(json.dumps(claims(roles=["admin"])).encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated):
        await provider.tokens().principal(f"{head}.{forged}.{seal}")


async def test_symmetric_keys_of_a_jwks_are_passed_over(provider: Provider) -> None:
    provider.publish({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "kid": "o1", "alg": "HS256"}, R1)
    with pytest.raises(Unauthenticated):
        await provider.tokens().principal(signed("secret-secret-secret-secret-secret", "HS256", "o1"))
    assert (await provider.tokens().principal(signed())).role is Role.OPERATOR


async def test_new_keys_are_asked_for_once_in_a_while(provider: Provider) -> None:
    provider.publish(R1)
    tokens = provider.tokens()
    await tokens.principal(signed())
    provider.publish(R1, E1)
    fresh = signed(EC, "ES256", "e1")
    with pytest.raises(Unauthenticated):
        await tokens.principal(fresh)
    provider.now = 31
    assert (await tokens.principal(fresh)).name == "jwt:ann"


async def test_while_the_provider_is_away_its_known_keys_go_on(provider: Provider) -> None:
    tokens = provider.tokens()
    await tokens.principal(signed())
    provider.file.unlink()
    provider.now = 3600
    assert (await tokens.principal(signed(sub="bob"))).name == "jwt:bob"


async def test_a_provider_that_was_never_there_is_no_fault_of_the_token(provider: Provider) -> None:
    provider.file.write_text("<html>")
    with pytest.raises(Unavailable):
        await provider.tokens().principal(signed())


async def test_a_token_that_held_before_ends_with_its_time(provider: Provider) -> None:
    now = time.time()
    tokens = Tokens(Issuer(ISSUER, AUDIENCE, str(provider.file)), wall=lambda: now)
    token = signed()
    await tokens.principal(token)
    assert tokens.known(token)
    now += 331
    assert tokens.known(token) is None


async def test_a_key_that_the_provider_takes_back_ends_the_tokens_it_signed(provider: Provider) -> None:
    now = time.time()
    tokens = Tokens(Issuer(ISSUER, AUDIENCE, str(provider.file)), lambda: now, lambda: now)
    token = signed(exp=now + 86_400)
    await tokens.principal(token)
    provider.publish(E1)
    now += FRESH_S + 1
    assert tokens.known(token) is None
    with pytest.raises(Unauthenticated, match="a key that the identity provider does not have"):
        await tokens.principal(token)


async def test_known_keys_do_not_wait_for_a_provider_that_hangs(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, hangs = provider.tokens(), threading.Event()
    await tokens.principal(signed())
    monkeypatch.setattr("gateway.access.tokens.fetched", lambda _: hangs.wait(60) and b"")
    provider.now = 31
    asking = asyncio.create_task(tokens.principal(signed(STRANGER, kid="nobody")))
    await asyncio.sleep(0.05)
    try:
        assert (await asyncio.wait_for(tokens.principal(signed(sub="bob")), 20)).name == "jwt:bob"
        assert not asking.done()
    finally:
        hangs.set()
    with pytest.raises(Unauthenticated):
        await asking


async def test_claims_by_the_providers_names(provider: Provider) -> None:
    tokens = provider.tokens(roles_claim="realm_access.roles", names={"mesh-ops": "operator", "chat": "talk"})
    token = signed(roles=None, realm_access={"roles": ["mesh-ops", "admin"]}, scope="openid chat")
    found = await tokens.principal(token)
    assert (found.role, found.scopes) == (Role.OPERATOR, frozenset({Scope.TALK}))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ((ISSUER, "", "file"), "jwt_audience"),
        ((ISSUER, "a", ""), "jwt_jwks"),
        ((ISSUER, "a", "http://x/y"), "jwt_jwks"),
    ],
)
def test_half_a_provider_is_refused(options: tuple[str, str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Issuer(*options)
    assert caught.value.field == field
