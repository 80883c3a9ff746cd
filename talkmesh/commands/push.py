"""`talkmesh push start`, `stop` and `list`: a live session on its way to an RTMP server."""

import argparse
import json
import os
import sys

from talkmesh.broadcast import Live
from talkmesh.commands.options import WELL, WRONG_USE, Commands, command, seconds, takes_json
from talkmesh.live.v1 import live_pb2
from talkmesh.table import cell, table
from talkmesh.terminal import Terminal

URL_VARIABLE = "TALKMESH_PUSH_URL"


def add(commands: Commands) -> None:
    top = commands.add_parser(
        "push", help="send a live session to an RTMP server", description="Pushes to RTMP servers."
    )
    verbs = top.add_subparsers(dest="verb", required=True)
    made = command(verbs, "start", "push a session until it is stopped, and print the push's id", start)
    made.add_argument("session", help="its id")
    made.add_argument(
        "url", nargs="?", help=f"rtmp://host/app/key or rtmps://…; - reads it from the input, else ${URL_VARIABLE}"
    )
    made.add_argument("--wait", type=seconds, default=30.0, metavar="S", help="longest wait for the server (30 s)")
    made = command(verbs, "stop", "end a push", stop)
    made.add_argument("session", help="its session's id")
    made.add_argument("push", help="its id")
    made = command(verbs, "list", "show the pushes of a session", show)
    made.add_argument("session", help="its id")
    takes_json(made)


async def start(options: argparse.Namespace) -> int:
    url = sys.stdin.readline().strip() if options.url == "-" else options.url or os.environ.get(URL_VARIABLE, "")
    if not url:
        sys.stderr.write(f"talkmesh push start: give a URL, or set ${URL_VARIABLE}\n")
        return WRONG_USE
    async with Live(options.address) as live:
        push = await live.start_push(options.session, url)
        Terminal().say(push.push_id)
        if options.wait:
            await live.until_live(options.session, push.push_id, options.wait)
    return WELL


async def stop(options: argparse.Namespace) -> int:
    async with Live(options.address) as live:
        await live.stop_push(options.session, options.push)
    return WELL


async def show(options: argparse.Namespace) -> int:
    async with Live(options.address) as live:
        pushes = await live.pushes(options.session)
    if options.json:
        Terminal().say(json.dumps([push_json(push) for push in pushes]))
    else:
        rows = [
            (push.push_id, push.url, state(push), str(push.sent_bytes), str(push.reconnects), cell(push.error))
            for push in pushes
        ]
        Terminal().say(*table(("PUSH", "TO", "STATE", "BYTES", "RECONNECTS", "LAST ERROR"), rows))
    return WELL


def state(push: live_pb2.Push) -> str:
    return live_pb2.PushState.Name(push.state).removeprefix("PUSH_STATE_")


def push_json(push: live_pb2.Push) -> dict[str, object]:
    return {
        "push_id": push.push_id,
        "url": push.url,
        "state": state(push),
        "bytes": push.sent_bytes,
        "reconnects": push.reconnects,
        "dropped_pictures": push.dropped_pictures,
        "dropped_sound_ms": round(push.dropped_sound_ms),
        "error": push.error,
    }
