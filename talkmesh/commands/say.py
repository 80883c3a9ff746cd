"""`talkmesh say`: what the face of a live session is to say."""

import argparse
import sys
from collections.abc import AsyncIterator

from talkmesh.broadcast import Live
from talkmesh.commands.options import FAILED, WELL, Commands, command
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.terminal import Terminal


def add(commands: Commands) -> None:
    made = command(commands, "say", "have the face of a live session say something", say)
    made.add_argument("session", help="its id")
    made.add_argument("texts", nargs="+", metavar="text", help="said one after the other; - reads lines from the input")
    made.add_argument("--ask", action="store_true", help="ask the language model, and have its answer said")
    made.add_argument("--no-wait", action="store_true", help="return when all is queued, not when it has been said")


async def say(options: argparse.Namespace) -> int:
    terminal, interrupted = Terminal(), False
    async with Live(options.address) as live:
        method = live.ask if options.ask else live.say
        async for text in texts(options.texts):
            response = await method(options.session, text, wait=not options.no_wait)
            if options.ask and response.HasField("done"):
                terminal.say(response.done.reply_text)
            completed = response.done.outcome == conversation_pb2.OUTCOME_COMPLETED
            interrupted |= response.HasField("done") and not completed
    return FAILED if interrupted else WELL


async def texts(given: list[str]) -> AsyncIterator[str]:
    """The texts, with the lines of the input in the place of -."""
    for text in given:
        if text != "-":
            yield text
            continue
        for line in sys.stdin:
            if line.strip():
                yield line.strip()
