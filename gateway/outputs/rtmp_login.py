"""How RTMP servers ask for a user and a password (Adobe Media Server's "authmod=adobe"), and what they are answered.

A server refuses the connection and says why; what proves the password goes to the next one, behind the application's name.
"""

import base64
import hashlib
import re
import secrets

from gateway.outputs.push_url import PushUrl

ASKS = re.compile(r"authmod=adobe\b")
CHALLENGE = re.compile(r"\?(reason=needauth&[^\s\]]*)")


def answer(refusal: str, url: PushUrl) -> str | None:
    """The query with which to come again after a refusal; None if it asks for nothing that we have."""
    if not url.user or not ASKS.search(refusal):
        return None
    challenge = CHALLENGE.search(refusal)
    if challenge is None:
        return None if "reason=" in refusal else f"?authmod=adobe&user={url.user}"
    asked = dict(part.partition("=")[::2] for part in challenge[1].split("&"))
    return f"?authmod=adobe&user={url.user}{proof(asked, url, secrets.token_hex(4))}"


def proof(asked: dict[str, str], url: PushUrl, ours: str) -> str:
    """That we know the password, without telling it."""
    opaque = asked.get("opaque", "")
    password = digest(url.user + asked.get("salt", "") + url.password)
    response = digest(password + (opaque or asked.get("challenge", "")) + ours)
    return f"&challenge={ours}&response={response}" + (f"&opaque={opaque}" if opaque else "")


def digest(text: str) -> str:
    # The servers' choice, not ours.
    return base64.b64encode(hashlib.md5(text.encode(), usedforsecurity=False).digest()).decode()
