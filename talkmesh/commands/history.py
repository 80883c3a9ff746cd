"""`talkmesh history`: what a slot wanted, by whom and why."""

import argparse
import json
from typing import Any

from talkmesh.admin.v1 import admin_pb2
from talkmesh.commands.options import WELL, Commands, command, takes_json, takes_service, takes_slot
from talkmesh.control import Admin
from talkmesh.table import cell, local_time, table
from talkmesh.terminal import Terminal

COLUMNS = ("GENERATION", "MODEL", "BEFORE", "WHEN", "CAUSE", "ACTOR", "REASON")


def add(commands: Commands) -> None:
    made = command(commands, "history", "what a slot wanted, by whom and why: newest first", history)
    takes_service(made)
    takes_slot(made)
    made.add_argument("-n", "--limit", type=int, default=20, help="most entries (20)")
    takes_json(made)


async def history(options: argparse.Namespace) -> int:
    async with Admin(options.address) as admin:
        changes = await admin.history(options.service, options.slot, options.limit)
    if options.json:
        Terminal().say(json.dumps([change_json(change) for change in changes]))
    else:
        Terminal().say(*table(COLUMNS, map(row, changes)))
    return WELL


def row(change: admin_pb2.SlotChange) -> tuple[str, ...]:
    return (
        str(change.generation),
        change.model,
        cell(change.model_before),
        local_time(change.at_ms),
        cause_name(change.cause),
        cell(change.actor),
        cell(change.reason),
    )


def cause_name(cause: "admin_pb2.Cause.ValueType") -> str:
    return admin_pb2.Cause.Name(cause).removeprefix("CAUSE_").lower().replace("_", " ")


def change_json(change: admin_pb2.SlotChange) -> dict[str, Any]:
    return {
        "service": change.service,
        "slot": change.slot,
        "model": change.model,
        "generation": change.generation,
        "model_before": change.model_before,
        "generation_before": change.generation_before,
        "actor": change.actor,
        "reason": change.reason,
        "cause": cause_name(change.cause),
        "at_ms": change.at_ms,
    }
