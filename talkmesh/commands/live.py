"""`talkmesh live open`, `close` and `list`: sessions that run in real time for people who only watch."""

import argparse
import json

from talkmesh.broadcast import Live
from talkmesh.client import SessionConfig
from talkmesh.commands.options import WELL, Commands, command, takes_json
from talkmesh.commands.push import push_json
from talkmesh.live.v1 import live_pb2
from talkmesh.table import table
from talkmesh.terminal import Terminal


def add(commands: Commands) -> None:
    top = commands.add_parser("live", help="live sessions for scripts", description="Live sessions for scripts.")
    verbs = top.add_subparsers(dest="verb", required=True)
    made = command(verbs, "open", "open a live session, and print its id", open_session)
    made.add_argument("--portrait", default="", help="the face")
    made.add_argument("--voice", default="", help="the voice")
    made.add_argument("--language", default="", help="the language spoken, for example en")
    made.add_argument("--size", type=int, default=0, help="picture width and height in pixels")
    made.add_argument("--system-prompt", default="", help="who the language model is to be when it is asked")
    made = command(verbs, "close", "end a session and its pushes", close)
    made.add_argument("session", help="its id")
    made = command(verbs, "list", "show the sessions that run", show)
    takes_json(made)


async def open_session(options: argparse.Namespace) -> int:
    config = SessionConfig(
        portrait=options.portrait,
        voice=options.voice,
        language=options.language,
        size=options.size,
        system_prompt=options.system_prompt,
    )
    async with Live(options.address) as live:
        Terminal().say((await live.open(config)).session_id)
    return WELL


async def close(options: argparse.Namespace) -> int:
    async with Live(options.address) as live:
        await live.close(options.session)
    return WELL


async def show(options: argparse.Namespace) -> int:
    async with Live(options.address) as live:
        sessions = await live.sessions()
    if options.json:
        Terminal().say(json.dumps([session_json(session) for session in sessions]))
    else:
        rows = [
            (each.session_id, each.portrait, f"{each.width}x{each.height}", str(each.viewers), str(len(each.pushes)))
            for each in sessions
        ]
        Terminal().say(*table(("SESSION", "PORTRAIT", "SIZE", "VIEWERS", "PUSHES"), rows))
    return WELL


def session_json(session: live_pb2.LiveSession) -> dict[str, object]:
    return {
        "session_id": session.session_id,
        "portrait": session.portrait,
        "width": session.width,
        "height": session.height,
        "viewers": session.viewers,
        "pushes": [push_json(push) for push in session.pushes],
    }
