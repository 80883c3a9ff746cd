"""`talkmesh swap`: another model in a slot, while people are talking."""

import argparse
import json
import time
from dataclasses import dataclass, field
from typing import Any

from talkmesh.admin.v1 import admin_pb2
from talkmesh.commands.history import change_json
from talkmesh.commands.options import (
    WELL,
    Commands,
    command,
    seconds,
    takes_author,
    takes_json,
    takes_service,
    takes_slot,
)
from talkmesh.control import Admin
from talkmesh.errors import TalkmeshError
from talkmesh.swap import HostProgress, NotInTime
from talkmesh.table import mebibytes
from talkmesh.terminal import Terminal


def add(commands: Commands) -> None:
    made = command(commands, "swap", "put another model into a slot, while people are talking", swap)
    takes_service(made)
    made.add_argument("model", help="a model of the catalog")
    takes_slot(made)
    made.add_argument("--expect", metavar="MODEL", help="only if the slot wants this model now")
    made.add_argument("--drain", type=seconds, metavar="S", help="time that streams on the model before get to end")
    made.add_argument("--standby", type=seconds, metavar="S", help="time that the model before stays warm")
    takes_wait(made)
    takes_author(made)
    takes_json(made)


def takes_wait(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="wait until every host of the service serves it (the default)",
    )
    made.add_argument("--timeout", type=seconds, default=120.0, metavar="S", help="longest wait (120 s)")


async def swap(options: argparse.Namespace) -> int:
    async with Admin(options.address, options.actor) as admin:
        change = await admin.set_slot(
            options.service,
            options.model,
            options.slot,
            expected=options.expect,
            drain_s=options.drain,
            standby_s=options.standby,
            reason=options.reason,
        )
        return await followed(admin, change, options)


async def followed(admin: Admin, change: admin_pb2.SlotChange, options: argparse.Namespace) -> int:
    """Tell of a change and, if asked to, of its way to the hosts. Raises TalkmeshError when it does not get there."""
    report = Report(change, Terminal(), options.json)
    if not options.wait:
        report.end("wanted")
        return WELL
    report.begin()
    try:
        await admin.served(change, options.timeout, report.tell)
    except TalkmeshError as error:
        report.end(outcome(error), str(error))
        raise
    report.end("served")
    return WELL


def outcome(error: TalkmeshError) -> str:
    """What became of a change that was not served, in a word."""
    if isinstance(error, NotInTime):
        return "not in time"
    return {"FAILED_PRECONDITION": "failed", "ABORTED": "overtaken"}.get(error.code, "unknown")


@dataclass
class Report:
    """What a person, or with `as_json` a program, reads of a change: on a terminal a line a host that is written over."""

    change: admin_pb2.SlotChange
    terminal: Terminal
    as_json: bool
    hosts: dict[str, HostProgress] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        if not self.as_json:
            self.terminal.say(self.headline)

    def tell(self, host: HostProgress) -> None:
        self.hosts[host.instance] = host
        if self.as_json:
            return
        if self.terminal.live:
            self.terminal.draw([line(each) for each in self.hosts.values()])
        else:
            self.terminal.say(line(host))

    def end(self, outcome: str, error: str = "") -> None:
        """The last words; an error is told by whoever takes it."""
        took_s = time.monotonic() - self.began
        if self.as_json:
            self.terminal.say(json.dumps(self._json(outcome, error, took_s)))
        elif outcome == "wanted":
            self.terminal.say(self.headline)
        else:
            self.terminal.keep()
            if outcome == "served":
                self.terminal.say(f"served by {counted(len(self.hosts))} after {took_s:.1f} s", *self._figures())

    @property
    def headline(self) -> str:
        change = self.change
        before = f"{change.model_before} → " if change.model_before else ""
        return f"{change.service}/{change.slot}: {before}{change.model}, generation {change.generation}"

    def _figures(self) -> list[str]:
        return [figures(host) for host in self.hosts.values() if host.timings]

    def _json(self, outcome: str, error: str, took_s: float) -> dict[str, Any]:
        hosts = [host_json(host) for host in self.hosts.values()]
        return {
            **change_json(self.change),
            "outcome": outcome,
            "error": error,
            "seconds": round(took_s, 3),
            "hosts": hosts,
        }


def counted(hosts: int) -> str:
    return "1 host" if hosts == 1 else f"{hosts} hosts"


def line(host: HostProgress) -> str:
    """Where a host stands."""
    if host.overtaken_by:
        return f"  {host.instance}: overtaken by generation {host.overtaken_by} ({host.overtaken_by_model})"
    state = "SERVING" if host.served else host.phase or "not begun"
    return f"  {host.instance}: {state}" + (f" ({host.error})" if host.error else "")


def figures(host: HostProgress) -> str:
    """What a swap cost a host."""
    phases = " · ".join(f"{phase.lower()} {spent:.2f} s" for phase, spent in host.timings)
    memory = f"; memory {mebibytes(host.rss_before_bytes)} → {mebibytes(host.rss_after_bytes)}"
    return f"  {host.instance}: {phases}" + (memory if host.rss_after_bytes else "")


def host_json(host: HostProgress) -> dict[str, Any]:
    return {
        "instance": host.instance,
        "phase": host.phase,
        "served": host.served,
        "error": host.error,
        "timings_s": {phase: round(spent, 3) for phase, spent in host.timings},
        "rss_before_mb": round(host.rss_before_bytes / 2**20, 1),
        "rss_after_mb": round(host.rss_after_bytes / 2**20, 1),
    }
