"""`talkmesh watch`: every host of the mesh, as it changes."""

import argparse
import asyncio
import contextlib
import json
import sys

from talkmesh.commands.options import WELL, Commands, command, takes_json
from talkmesh.control import RECONNECT_S, Admin
from talkmesh.errors import TalkmeshError
from talkmesh.mesh import Mesh
from talkmesh.terminal import Terminal, clean
from talkmesh.watching import changes_json, changes_text, mesh_table


def add(commands: Commands) -> None:
    made = command(commands, "watch", "every host of the mesh, live, until Ctrl-C", watch)
    takes_json(made, "print one JSON object for each change, on a line of its own")


async def watch(options: argparse.Namespace) -> int:
    """Show the mesh until interrupted. A gateway that goes away is waited for, but not one that never came."""
    terminal, shown, away = Terminal(), Mesh(), False
    async with Admin(options.address) as admin:
        while True:
            try:
                async with contextlib.aclosing(admin.watch()) as states:
                    async for mesh in states:
                        show(terminal, shown, mesh, options.json)
                        shown, away = mesh, False
            except TalkmeshError as error:
                if not shown.freshness or error.code != "UNAVAILABLE":
                    raise
                if not (away or terminal.live):
                    sys.stderr.write(f"talkmesh: {clean(str(error))}; waiting for it\n")
                away = True
                draw(terminal, shown, f"gateway away: {error}", options.json)
                await asyncio.sleep(error.retry_after_s or RECONNECT_S)
    return WELL


def show(terminal: Terminal, before: Mesh, mesh: Mesh, as_json: bool) -> None:
    """One more state: drawn over the last one on a terminal, told as what has changed elsewhere."""
    if as_json:
        terminal.say(*(json.dumps(change) for change in changes_json(before, mesh)))
    elif terminal.live:
        draw(terminal, mesh, "", as_json)
    else:
        terminal.say(*changes_text(before, mesh))


def draw(terminal: Terminal, mesh: Mesh, note: str, as_json: bool) -> None:
    if not as_json:
        terminal.draw(mesh_table(mesh, note))
