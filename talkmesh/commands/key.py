"""`talkmesh key`: who may use the gateway."""

import argparse
import json
import re
import time
from typing import Any

from talkmesh.admin.v1 import admin_pb2
from talkmesh.commands.options import WELL, Commands, takes_author, takes_json
from talkmesh.control import Admin
from talkmesh.table import cell, local_time, table
from talkmesh.terminal import Terminal

COLUMNS = ("ID", "NAME", "ROLE", "SCOPES", "CALLS/S", "SESSIONS", "CREATED", "BY", "STATE")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ROLES, SCOPES = ("viewer", "operator", "admin"), ("talk", "push")


def add(commands: Commands) -> None:
    made = commands.add_parser("key", help="API keys: make, list, revoke", description="API keys, see docs/access.md.")
    verbs = made.add_subparsers(dest="verb", required=True)
    creating = verbs.add_parser("create", help="make a key; its token is shown this once")
    creating.add_argument("name", help="whose it is; one of its own among the keys in force")
    creating.add_argument("--role", choices=ROLES, default="", help="what it may do to the mesh")
    creating.add_argument("--scope", choices=SCOPES, action="append", default=[], help="what it may do with the mesh")
    creating.add_argument("--expires", type=span_s, default=0, metavar="30d", help="how long it holds (for ever)")
    creating.add_argument("--rate", type=float, default=0.0, help="most calls a second (as many as it likes)")
    creating.add_argument("--burst", type=int, default=0, help="of them at once (as many as come in two seconds)")
    creating.add_argument(
        "--sessions", type=int, default=0, help="most sessions at a time (as many as there is room for)"
    )
    takes_author(creating)
    creating.set_defaults(run=create)
    listing = verbs.add_parser("list", help="all keys, also those that do not hold any more")
    listing.set_defaults(run=show)
    revoking = verbs.add_parser("revoke", help="have a key hold no more, on every gateway")
    revoking.add_argument("id", help="as `key list` has it")
    takes_author(revoking)
    revoking.set_defaults(run=revoke)
    for verb in (creating, listing, revoking):
        takes_json(verb)


async def create(options: argparse.Namespace) -> int:
    request = admin_pb2.CreateKeyRequest(
        name=options.name,
        role=options.role,
        scopes=options.scope,
        expires_in_s=options.expires,
        requests_per_s=options.rate,
        burst=options.burst,
        sessions=options.sessions,
        reason=options.reason,
    )
    async with Admin(options.address, options.actor) as admin:
        made = await admin.create_key(request)
    if options.json:
        Terminal().say(json.dumps(key_json(made.key) | {"token": made.token}))
    else:
        Terminal().say(f"key {made.key.id} for {made.key.name}; its token, which cannot be had again:", made.token)
    return WELL


async def show(options: argparse.Namespace) -> int:
    async with Admin(options.address) as admin:
        keys = await admin.keys()
    if options.json:
        Terminal().say(json.dumps([key_json(key) for key in keys]))
    else:
        Terminal().say(*table(COLUMNS, map(row, keys)))
    return WELL


async def revoke(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        key = await admin.revoke_key(options.id, reason=options.reason)
    Terminal().say(json.dumps(key_json(key)) if options.json else f"key {key.id} of {key.name} holds no more")
    return WELL


def span_s(text: str) -> int:
    """A span such as 30d, 12h, 15m or 90s, in seconds."""
    found = re.fullmatch(r"([1-9]\d{0,8})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no span such as 30d, 12h, 15m or 90s")
    return int(found[1]) * UNITS[found[2]]


def state(key: admin_pb2.Key) -> str:
    if key.revoked_ms:
        return f"revoked by {key.revoked_by or '?'}"
    if not key.expires_ms:
        return "holds"
    word = "expired" if key.expires_ms <= 1000 * time.time() else "until"
    return f"{word} {local_time(key.expires_ms, 'minutes')}"


def row(key: admin_pb2.Key) -> tuple[str, ...]:
    created = local_time(key.created_ms, "minutes")
    rate = f"{key.requests_per_s:g}" if key.requests_per_s else "-"
    scopes, sessions = cell(",".join(key.scopes)), cell(str(key.sessions or ""))
    return key.id, key.name, cell(key.role), scopes, rate, sessions, created, cell(key.created_by), state(key)


def key_json(key: admin_pb2.Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "scopes": list(key.scopes),
        "requests_per_s": key.requests_per_s,
        "burst": key.burst,
        "sessions": key.sessions,
        "created_ms": key.created_ms,
        "created_by": key.created_by,
        "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms,
        "revoked_by": key.revoked_by,
    }
