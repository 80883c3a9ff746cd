"""`talkmesh feedback`: what somebody thought of a session."""

import argparse

from talkmesh.client import Client
from talkmesh.commands.options import WELL, Commands, command
from talkmesh.terminal import Terminal


def add(commands: Commands) -> None:
    made = command(commands, "feedback", "say what you thought of a session, or of one of its turns", feedback)
    made.add_argument("session", help="its id")
    made.add_argument("score", type=float, help="-1 (bad) to 1 (good)")
    made.add_argument("--turn", default="", help="the id of a turn; without, the session as a whole")
    made.add_argument("--comment", default="", help="why; kept only where what people say is kept")


async def feedback(options: argparse.Namespace) -> int:
    async with Client(options.address) as client:
        await client.feedback(options.session, options.score, turn_id=options.turn, comment=options.comment)
    Terminal().say("thank you")
    return WELL
