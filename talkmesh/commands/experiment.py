"""`talkmesh experiment`: models that some of the users get."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from talkmesh.admin.v1 import admin_pb2
from talkmesh.client import User
from talkmesh.commands import results
from talkmesh.commands.options import WELL, Commands, command, takes_author, takes_json
from talkmesh.control import Admin
from talkmesh.errors import TalkmeshError
from talkmesh.table import cell, local_time, table
from talkmesh.terminal import Terminal

BUCKETS = 1_000_000
COLUMNS = ("FLAG", "STATE", "ENROLLED", "VARIANTS", "OWNER", "REVISION", "PROBLEM")


def add(commands: Commands) -> None:
    top = commands.add_parser("experiment", help="models for some of the users", description="Models for some users.")
    verbs = top.add_subparsers(dest="verb", required=True)
    made = named(verbs, "put", "write an experiment from a file, see docs/experiments.md", put)
    made.add_argument("file", type=Path, help="JSON; - reads the standard input")
    takes_expected(made)
    made = named(verbs, "create", "the same, if there is none of that name yet", put)
    made.add_argument("file", type=Path, help="JSON; - reads the standard input")
    made.set_defaults(expect=0)
    made = named(verbs, "ramp", "have more of the users take part", ramp)
    made.add_argument("percent", type=percentage, help="of those that are meant; nobody leaves an arm")
    made.add_argument(
        "--shrink", action="store_true", help="allow fewer than now: sessions that run keep what they have"
    )
    for verb, state, what in (
        ("on", "on", "have it enrol users"),
        ("hold", "held", "stop its ramp where it is"),
        ("shadow", "shadow", "give its variants a copy of what is said, unseen and measured"),
        ("stop", "off", "take it back: everybody gets what everybody gets, at once"),
    ):
        named(verbs, verb, what, become).set_defaults(state=state)
    named(verbs, "remove", "take it back, and forget it", remove)
    made = command(verbs, "status", "the experiments, and what keeps them from enrolling anybody", status)
    takes_json(made)
    made = named(verbs, "promote", "make a variant what everybody gets, and end the experiment", promote)
    made.add_argument("variant", help="the winner")
    made = command(verbs, "verdicts", "what was decided, and the numbers that caused it", verdicts)
    made.add_argument("flag", nargs="?", default="", help="only of this experiment")
    made.add_argument("--limit", type=int, default=0, help="so many at most (20)")
    takes_json(made)
    results.add(verbs)
    made = command(verbs, "explain", "who would get what, and why", explain)
    takes_user(made)
    made.add_argument("--flag", default="", help="only this experiment")
    takes_json(made)


def named(verbs: Commands, verb: str, what: str, run: Any) -> argparse.ArgumentParser:
    made = command(verbs, verb, what, run)
    made.add_argument("flag", help="its name")
    takes_author(made)
    return made


def takes_expected(made: argparse.ArgumentParser) -> None:
    made.add_argument("--expect", type=int, help="only if it stands at this revision now; 0 is nowhere yet")


def takes_user(made: argparse.ArgumentParser) -> None:
    """Options that say who a user is."""
    made.add_argument("--user", default="", help="the user's id")
    made.add_argument("--device-id", default="", help="the device's id")
    made.add_argument("--attribute", action="append", default=[], type=pair, metavar="NAME=VALUE", help="country=CN …")
    made.add_argument("--tag", action="append", default=[], help="a tag of the user")


def user_of(options: argparse.Namespace) -> User:
    return User(options.user, options.device_id, dict(options.attribute), options.tag)


def pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def percentage(text: str) -> float:
    value = float(text)
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not over 0 and up to 100")
    return value


async def put(options: argparse.Namespace) -> int:
    text = sys.stdin.read() if str(options.file) == "-" else options.file.read_text(encoding="utf-8")
    async with Admin(options.address, options.actor) as admin:
        revision = await admin.set_flag(options.flag, text, expected=options.expect, reason=options.reason)
    return said(options.flag, f"stands at revision {revision}")


async def ramp(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        value, revision = await current(admin, options.flag)
        now, end = share(value), round(options.percent * BUCKETS / 100)
        if len(value.get("enrolled", [])) > 1 or any(start for start, _ in value.get("enrolled", [])):
            raise TalkmeshError("enrolled: has ranges of its own, which a ramp would not extend", "FAILED_PRECONDITION")
        if options.percent < now and not options.shrink:
            problem = f"enrolled: {now:g} % take part already; --shrink allows fewer"
            raise TalkmeshError(problem, "FAILED_PRECONDITION")
        changed = value | {"enrolled": [[0, end]]}
        await admin.set_flag(options.flag, json.dumps(changed), expected=revision, reason=options.reason)
    return said(options.flag, f"{now:g} % → {options.percent:g} %")


async def become(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        value, revision = await current(admin, options.flag)
        changed = json.dumps(value | {"state": options.state})
        await admin.set_flag(options.flag, changed, expected=revision, reason=options.reason)
    return said(options.flag, options.state)


async def remove(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        await admin.delete_flag(options.flag, reason=options.reason)
    return said(options.flag, "removed")


async def promote(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        changes = await admin.promote(options.flag, options.variant, reason=options.reason)
    slots = ", ".join(f"{each.service}/{each.slot} wants {each.model}" for each in changes)
    return said(options.flag, f"off; {slots or 'everybody gets what everybody got'}")


async def verdicts(options: argparse.Namespace) -> int:
    async with Admin(options.address) as admin:
        found = await admin.verdicts(options.flag, options.limit)
    if options.json:
        Terminal().say(
            json.dumps([json_format.MessageToDict(each, preserving_proto_field_name=True) for each in found])
        )
    else:
        rows = [(local_time(each.at_ms), each.flag, each.action, cell(each.state), each.reason) for each in found]
        Terminal().say(*table(("WHEN", "FLAG", "ACTION", "STATE", "WHY"), rows))
    return WELL


async def status(options: argparse.Namespace) -> int:
    async with Admin(options.address) as admin:
        flags = await admin.flags()
    if options.json:
        Terminal().say(json.dumps([flag_json(flag) for flag in flags]))
    else:
        Terminal().say(*table(COLUMNS, map(row, flags)))
    return WELL


async def explain(options: argparse.Namespace) -> int:
    async with Admin(options.address) as admin:
        decisions = await admin.decide(user_of(options), options.flag)
    if options.json:
        Terminal().say(json.dumps([decision_json(each) for each in decisions]))
    else:
        rows = [(each.flag, cell(each.variant), each.reason, cell(each.unit_kind), each.why) for each in decisions]
        Terminal().say(*table(("FLAG", "VARIANT", "REASON", "UNIT", "WHY"), rows))
    return WELL


async def current(admin: Admin, name: str) -> tuple[dict[str, Any], int]:
    """An experiment's value, and its revision. Raises TalkmeshError."""
    flags = await admin.flags()
    found = next((flag for flag in flags if flag.flag == name), None)
    if found is None:
        known = ", ".join(flag.flag for flag in flags) or "none"
        raise TalkmeshError(f"flag {name!r} is not there; there is {known}", "NOT_FOUND")
    value = value_of(found)
    if value is None:
        raise TalkmeshError(f"flag {name!r} cannot be read: {found.problem}", "FAILED_PRECONDITION")
    return value, found.revision


def value_of(flag: admin_pb2.Flag) -> dict[str, Any] | None:
    try:
        value = json.loads(flag.json)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def share(value: dict[str, Any]) -> float:
    """How many of those meant take part, in percent."""
    enrolled: list[tuple[int, int]] = value.get("enrolled", [])
    return sum(end - start for start, end in enrolled) * 100 / BUCKETS


def row(flag: admin_pb2.Flag) -> tuple[str, ...]:
    value = value_of(flag) or {}
    problem = flag.problem or flag.lacks
    if flag.problem:
        return (flag.flag, "-", "-", "-", "-", str(flag.revision), problem)
    return (
        flag.flag,
        str(value.get("state", "on")),
        f"{share(value):g} %",
        ", ".join(value.get("variants", {})),
        cell(str(value.get("owner", ""))),
        str(flag.revision),
        cell(problem),
    )


def flag_json(flag: admin_pb2.Flag) -> dict[str, Any]:
    return {
        "flag": flag.flag,
        "value": value_of(flag),
        "revision": flag.revision,
        "problem": flag.problem,
        "lacks": flag.lacks,
        "shadows": [json_format.MessageToDict(each, preserving_proto_field_name=True) for each in flag.shadows],
    }


def decision_json(decision: admin_pb2.FlagDecision) -> dict[str, str]:
    return {
        "flag": decision.flag,
        "variant": decision.variant,
        "reason": decision.reason,
        "unit_kind": decision.unit_kind,
        "why": decision.why,
    }


def said(flag: str, what: str) -> int:
    Terminal().say(f"{flag}: {what}")
    return WELL
