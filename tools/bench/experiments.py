"""What experiments cost and how often they err.

python -m tools.bench experiments --json

Decisions are those of gateway.experiments, one at a time. Rollbacks are simulated on the tests that are to decide them:
every run is looked at after each unit. Puts go to a real etcd, and are timed until each of several gateways' registries
goes by them. Last, on a real mesh half of the users get a voice that is broken, until it is taken back.
"""

import argparse
import asyncio
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.experiments import statistics
from gateway.experiments.assignment import Evaluator
from gateway.experiments.buckets import BUCKETS
from gateway.experiments.flags import Flag
from gateway.experiments.registry import FLAGS, Registry
from gateway.experiments.rules import Attributes
from services.runtime.etcd import connected, etcd_settings
from tools.bench.experimenting import curve, live
from tools.bench.figures import percentile
from tools.bench.machine import machine
from tools.etcd import running_etcd

GUARD, HOLD = 0.001, 0.05
CONTROL_RATE = 0.01
RAMP = (1, 5, 25, 50, 100)
USER: Attributes = {"country": "CN", "region": "Guangdong", "device": "phone", "app_version": "2.10.1", "turns": 7.0}
RULE = 'country == "CN" and region == "Guangdong" and device in ("phone", "tablet") and app_version >= "2.9"'
DETECTED = (0.02, 0.05, 0.1, 0.3, 1.0)
"""Failure rates of a treatment, beside a control at CONTROL_RATE."""
NEVER = 10**9
CHI2_ONCE_IN_1000 = 10.83
"""One degree of freedom."""


def voice(name: str = "voice", percent: float = 100, **fields: Any) -> Evaluator:
    """A flag with two arms."""
    given = {
        "owner": "bench",
        "variants": {"heart": {}, "joe": {"slots": {"tts": "candidate"}}},
        "control": "heart",
        "enrolled": [[0, round(percent * BUCKETS / 100)]],
    }
    return Evaluator(name, Flag.model_validate(given | fields))


def assign_us(decisions: int) -> dict[str, float]:
    """One decision with a rule of four comparisons, by a user who takes part."""
    evaluator = voice(rule=RULE)
    units = [{"user": f"user-{number}"} for number in range(decisions)]
    took = []
    for unit in units:
        began = time.perf_counter_ns()
        evaluator.decide(unit, USER, 0.0)
        took.append((time.perf_counter_ns() - began) / 1000)
    return {f"p{at}": round(percentile(took, at), 2) for at in (50, 99)}


def moved_users(users: int) -> int:
    """Users who left their arm, or the experiment, in a ramp from 1 to 100 %."""
    steps = [voice(percent=percent) for percent in RAMP]
    moved = 0
    for number in range(users):
        unit, arm = {"user": str(number)}, ""
        for step in steps:
            now = step.decide(unit, {}, 0.0).variant
            moved += bool(arm) and now != arm
            arm = now
    return moved


def dependent_pairs(flags: int, users: int) -> int:
    """Pairs of flags whose arms are not independent by a χ² test that errs once in 1,000 pairs."""
    arms = np.array(
        [
            [evaluator.decide({"user": str(number)}, {}, 0.0).variant == "joe" for number in range(users)]
            for evaluator in (voice(f"flag-{number}") for number in range(flags))
        ]
    )
    return sum(chi2(arms[one], arms[other]) > CHI2_ONCE_IN_1000 for one, other in combinations(range(flags), 2))


def chi2(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Of a table of two by two."""
    seen = np.array([[np.sum((one == a) & (other == b)) for a in (False, True)] for b in (False, True)], float)
    expected = seen.sum(axis=0, keepdims=True) * seen.sum(axis=1, keepdims=True) / seen.sum()
    return float(((seen - expected) ** 2 / expected).sum())


def log_e(failures: int, share: float) -> npt.NDArray[np.float64]:
    """The evidence of gateway.experiments.statistics.FailureTest by failures in all and of the treatment, [n, k]."""
    stake = np.log1p(share * (statistics.ODDS - 1))
    of_treatment, total = np.arange(failures + 1), np.arange(failures + 1)
    exponents = of_treatment[None, :, None] * np.log(statistics.ODDS) - total[:, None, None] * stake
    most = exponents.max(axis=2)
    found = most + np.log(np.exp(exponents - most[..., None]).mean(axis=2))
    return np.asarray(found, np.float64)


def aa_false_rollbacks(runs: int, failures: int, seed: int) -> dict[str, float]:
    """Shares of runs of two equal arms in which the test of failures alarms, looked at after each of so many failures.

    With equal arms a failure is as likely the treatment's as the control's: nothing else of the runs matters.
    """
    chance = np.random.default_rng(seed)
    evidence = log_e(failures, 0.5)
    totals = np.arange(1, failures + 1)
    most = np.array([evidence[totals, np.cumsum(chance.random(failures) < 0.5)].max() for _ in range(runs)])
    return {name: float(np.mean(most >= -math.log(alpha))) for name, alpha in (("guard", GUARD), ("hold", HOLD))}


def turns_until_out(rate: float, alpha: float, runs: int, most: int, seed: int) -> list[int]:
    """Turns an arm until an alarm, looked at after each turn; NEVER for a run without one."""
    chance = random.Random(seed)
    found = []
    for _ in range(runs):
        test, out = statistics.FailureTest(), NEVER
        for turn in range(1, 2 * most + 1):
            treated = chance.random() < 0.5
            if chance.random() < (rate if treated else CONTROL_RATE):
                test.failed(treated, 0.5)
                if treated and test.alarms(alpha):
                    out = math.ceil(turn / 2)
                    break
        found.append(out)
    return found


def detection(runs: int, seed: int) -> list[dict[str, Any]]:
    """How soon treatments of several failure rates are out: the median of turns an arm."""
    rows = []
    for rate in DETECTED:
        row: dict[str, Any] = {"rate": rate}
        for name, alpha in (("guard", GUARD), ("hold", HOLD)):
            median = percentile(turns_until_out(rate, alpha, runs, 8_000, seed), 50)
            row[name] = round(median) if median < NEVER else None
        rows.append(row)
    return rows


async def put_to_gateways_ms(puts: int, gateways: int) -> dict[str, float]:
    """From a put until each registry goes by the new value."""
    took = []
    with tempfile.TemporaryDirectory(prefix="bench-flags-") as folder:
        async with running_etcd(Path(folder) / "etcd", sync=False) as server, AsyncExitStack() as stack:
            etcds = [
                await stack.enter_async_context(connected(etcd_settings(server.endpoint))) for _ in range(gateways)
            ]
            registries = [Registry(lambda service, slot: True) for _ in etcds]
            async with asyncio.TaskGroup() as group:
                following = [group.create_task(r.follow(e)) for r, e in zip(registries, etcds, strict=True)]
                for number in range(puts + 1):
                    value = voice().flag.model_copy(update={"description": str(number)}).model_dump_json()
                    began = time.perf_counter()
                    await etcds[0].put(f"{FLAGS}voice", value)
                    while not all(described(registry) == str(number) for registry in registries):
                        await asyncio.sleep(0.0005)
                    if number:
                        took.append(1000 * (time.perf_counter() - began))
                    await asyncio.sleep(0.01)
                for task in following:
                    task.cancel()
    return {f"p{at}": round(percentile(took, at), 2) for at in (50, 99)}


def described(registry: Registry) -> str:
    flag = registry.flag("voice")
    return flag.description if flag else ""


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, or what happens on a real mesh only."""
    if options.only_live:
        return await live.measure(options) | {"machine": machine()}
    rollback = {} if options.no_live else await live.measure(options)
    dead = turns_until_out(1.0, GUARD, options.runs // 5, 500, options.seed)
    return {
        "assign_us": assign_us(options.decisions),
        "put_to_gateways_ms": await put_to_gateways_ms(options.puts, options.gateways),
        "moved_users": moved_users(options.users),
        "ramped_users": options.users,
        "dependent_pairs": dependent_pairs(20, options.users // 10),
        "aa_runs": options.runs,
        "aa_false_rollbacks": aa_false_rollbacks(options.runs, options.failures, options.seed),
        "dead_variant_turns": {f"p{at}": round(percentile(dead, at)) for at in (50, 90)},
        "detection": detection(options.runs // 50, options.seed),
        "machine": machine(),
    } | rollback


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tools.bench experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--decisions", type=int, default=200_000, help="that are timed (200000)")
    add("--users", type=int, default=1_000_000, help="who go through a ramp (1000000)")
    add("--runs", type=int, default=10_000, help="simulated experiments with equal arms (10000)")
    add("--failures", type=int, default=400, help="in each of them: at 1 % that is 20,000 units an arm (400)")
    add("--puts", type=int, default=200, help="of a flag (200)")
    add("--gateways", type=int, default=3, help="that follow it (3)")
    add("--workers", type=int, default=6, help="users at a time on the real mesh (6)")
    add("--fails", type=float, default=1.0, help="share of clauses that its broken voice fails at (1)")
    add(
        "--compare", type=int, default=0, help="first, so many users of two voices that are well, and their results (0)"
    )
    add("--no-live", action="store_true", help="leave the real mesh out")
    add("--only-live", action="store_true", help="nothing but the real mesh")
    add("--svg", type=Path, help="where the detection curve is drawn")
    add("--seed", type=int, default=5)
    add("--json", action="store_true", help="figures as JSON on one line")
    return made


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(arguments)
    found = asyncio.run(measure(options))
    if options.svg and "detection" in found:
        options.svg.write_text(curve.svg(found["detection"]), encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=None if options.json else 2) + "\n")
