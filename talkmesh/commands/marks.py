"""`talkmesh veto`, `unveto`, `evict` and `preload`: marks on a model of the catalog."""

import argparse

from talkmesh.commands.options import WELL, Commands, Run, command, takes_author, takes_service
from talkmesh.control import Admin
from talkmesh.terminal import Terminal


def add(commands: Commands) -> None:
    mark(commands, "veto", "keep a model out of every slot; what serves it goes on", veto)
    mark(commands, "unveto", "let a vetoed model in again", unveto)
    mark(commands, "evict", "free the memory of a warm model that no slot wants", evict)
    made = mark(commands, "preload", "keep a model warm on every host before it is asked for", preload)
    made.add_argument("--off", action="store_true", help="no longer")


def mark(commands: Commands, name: str, what: str, run: Run) -> argparse.ArgumentParser:
    made = command(commands, name, what, run)
    takes_service(made)
    made.add_argument("model", help="a model of the catalog")
    takes_author(made)
    return made


async def veto(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        await admin.veto(options.service, options.model, reason=options.reason)
    return said(options, "vetoed")


async def unveto(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        await admin.veto(options.service, options.model, vetoed=False, reason=options.reason)
    return said(options, "not vetoed any more")


async def evict(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        await admin.evict(options.service, options.model, reason=options.reason)
    return said(options, "the hosts are told to let go of it")


async def preload(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        await admin.preload(options.service, options.model, preload=not options.off, reason=options.reason)
    return said(options, "not kept warm any more" if options.off else "to be kept warm")


def said(options: argparse.Namespace, what: str) -> int:
    Terminal().say(f"{options.service} {options.model}: {what}")
    return WELL
