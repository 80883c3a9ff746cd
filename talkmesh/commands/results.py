"""`talkmesh experiment results`: what became of an experiment's sessions, arm by arm."""

import argparse
import json
import math
from typing import Any

from talkmesh.admin.v1 import admin_pb2
from talkmesh.commands.options import WELL, Commands, command, takes_json
from talkmesh.control import Admin
from talkmesh.table import table
from talkmesh.terminal import Terminal

COLUMNS = ("FIGURE", "VARIANT", "SESSIONS", "VALUE", "LIMITS", "LESS THE CONTROL'S", "LIMITS")
PERCENT = ("turn_failed", "interrupted")


def add(verbs: Commands) -> None:
    made = command(verbs, "results", "what became of its sessions, arm by arm", results)
    made.add_argument("flag", help="its name")
    made.add_argument("--alpha", type=float, default=0.0, help="chance of an interval to be ever wrong (0.05)")
    takes_json(made)


async def results(options: argparse.Namespace) -> int:
    async with Admin(options.address) as admin:
        found = await admin.results(options.flag, alpha=options.alpha)
    Terminal().say(*([json.dumps(results_json(found))] if options.json else lines(found)))
    return WELL


def lines(found: admin_pb2.GetResultsResponse) -> list[str]:
    """For a person: a figure of all arms, one below the other."""
    shares = {share.variant: share for share in found.ratio.arms}
    arms = [
        (
            arm.variant,
            str(arm.sessions),
            str(arm.turns),
            str(shares[arm.variant].units),
            f"{shares[arm.variant].share:.1%}",
        )
        for arm in found.arms
        if arm.variant in shares
    ]
    told = table(("VARIANT", "SESSIONS", "TURNS", "UNITS", "DEALT OUT"), arms)
    verdict = "THEY DO NOT: no figure below can be trusted" if found.ratio.mismatch else "they do"
    told += [f"units come in the shares that were dealt out: {verdict} (log e {found.ratio.log_e:.1f})", ""]
    names = list(dict.fromkeys((each.metric, each.statistic) for arm in found.arms for each in arm.figures))
    rows = [
        row(arm.variant, figure)
        for name in names
        for arm in found.arms
        for figure in arm.figures
        if (figure.metric, figure.statistic) == name
    ]
    told += table(COLUMNS, rows)
    told.append(f"All limits hold with {1 - found.alpha:.0%} at any time, each figure for itself.")
    if found.waiting:
        told.append(f"{found.waiting} outcomes are not in the store yet.")
    return told


def row(variant: str, figure: admin_pb2.Figure) -> tuple[str, ...]:
    less = figure.difference if figure.HasField("difference") else None
    return (
        f"{figure.metric} {figure.statistic}",
        variant,
        str(figure.sessions),
        number(figure.metric, figure.value.value),
        limits(figure.metric, figure.value),
        number(figure.metric, less.value, "+") if less else "-",
        limits(figure.metric, less, "+") if less else "-",
    )


def number(metric: str, value: float, sign: str = "") -> str:
    if not math.isfinite(value):
        return "?"
    if metric in PERCENT:
        return f"{value:{sign}.2%}"
    return f"{value:{sign}.0f}" if metric.endswith("_ms") else f"{value:{sign}.2f}"


def limits(metric: str, found: admin_pb2.ValueRange, sign: str = "") -> str:
    return f"{number(metric, found.low, sign)} to {number(metric, found.high, sign)}"


def results_json(found: admin_pb2.GetResultsResponse) -> dict[str, Any]:
    """null where nothing is known, and for limits that are infinitely far."""
    return {
        "flag": found.flag,
        "control": found.control,
        "alpha": found.alpha,
        "waiting": found.waiting,
        "arms": [arm_json(arm) for arm in found.arms],
        "ratio": {
            "mismatch": found.ratio.mismatch,
            "log_e": found.ratio.log_e,
            "alpha": found.ratio.alpha,
            "arms": [{"variant": each.variant, "units": each.units, "share": each.share} for each in found.ratio.arms],
        },
    }


def arm_json(arm: admin_pb2.ArmResult) -> dict[str, Any]:
    figures = [
        {
            "metric": each.metric,
            "statistic": each.statistic,
            "sessions": each.sessions,
            **range_json(each.value),
            "difference": range_json(each.difference) if each.HasField("difference") else None,
        }
        for each in arm.figures
    ]
    return {"variant": arm.variant, "sessions": arm.sessions, "turns": arm.turns, "figures": figures}


def range_json(found: admin_pb2.ValueRange) -> dict[str, float | None]:
    values = {"value": found.value, "low": found.low, "high": found.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
