"""`talkmesh rollback`: a slot wants again what it wanted before."""

import argparse

from talkmesh.commands.options import Commands, command, takes_author, takes_json, takes_service, takes_slot
from talkmesh.commands.swap import followed, takes_wait
from talkmesh.control import Admin


def add(commands: Commands) -> None:
    made = command(commands, "rollback", "want in a slot again what it wanted before", rollback)
    takes_service(made)
    takes_slot(made)
    takes_wait(made)
    takes_author(made)
    takes_json(made)


async def rollback(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        change = await admin.roll_back(options.service, options.slot, reason=options.reason)
        return await followed(admin, change, options)
