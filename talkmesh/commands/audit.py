"""`talkmesh audit`: every change, by whom and why."""

import argparse
import json

from google.protobuf import json_format

from talkmesh.admin.v1 import admin_pb2
from talkmesh.commands.options import WELL, Commands, command, takes_json
from talkmesh.control import Admin
from talkmesh.table import cell, local_time, table
from talkmesh.terminal import Terminal

COLUMNS = ("WHEN", "WHAT", "OF", "SUBJECT", "ACTOR", "REASON", "PLACE")


def add(commands: Commands) -> None:
    made = command(commands, "audit", "every change, by whom and why: newest first", audit)
    made.add_argument("-n", "--limit", type=int, default=20, help="most entries (20)")
    made.add_argument("--before", default="", metavar="PLACE", help="go on with what is older than this entry")
    takes_json(made)


async def audit(options: argparse.Namespace) -> int:
    async with Admin(options.address) as admin:
        entries = await admin.audit(options.limit, options.before)
    if options.json:
        Terminal().say(
            json.dumps([json_format.MessageToDict(each, preserving_proto_field_name=True) for each in entries])
        )
    else:
        Terminal().say(*table(COLUMNS, map(row, entries)))
    return WELL


def row(entry: admin_pb2.AuditEntry) -> tuple[str, ...]:
    return (
        local_time(entry.at_ms),
        entry.action,
        entry.service,
        entry.subject,
        cell(entry.actor),
        cell(entry.reason),
        entry.place,
    )
