"""Results as the API tells them."""

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.experiments.flags import Flag
from gateway.experiments.registry import Registry
from gateway.experiments.statistics import Interval
from gateway.outcomes.arms import fingerprint
from gateway.outcomes.results import ArmResult, Figure, Ratio, Results
from services.runtime.errors import InvalidInput, NotFound, Refused
from talkmesh.admin.v1 import admin_pb2

ALPHA, LEAST_ALPHA, MOST_ALPHA = 0.05, 1e-6, 0.5


Ask = Callable[[str, float], Awaitable[Results]]
"""Results of a flag, by its name and an alpha. Raises DomainError."""


class Kept(Protocol):
    """Outcomes that are kept."""

    async def results(self, name: str, flag: Flag, arms: str, alpha: float) -> Results:
        """What became of an experiment with the arms of this fingerprint. Raises DomainError."""


async def asked(experiments: Registry, kept: Kept | None, name: str, alpha: float) -> Results:
    """Results of a flag. Raises InvalidInput, NotFound, Refused where no outcomes are kept, and what reading them does."""
    if alpha and not (math.isfinite(alpha) and LEAST_ALPHA <= alpha <= MOST_ALPHA):
        raise InvalidInput("alpha", f"is {alpha:g}", f"{LEAST_ALPHA:g} to {MOST_ALPHA:g}")
    if kept is None:
        raise Refused("this gateway keeps no outcomes: see its option outcomes-folder")
    flag = experiments.flag(name)
    if flag is None:
        raise NotFound("flag", name[:100], sorted(experiments.names))
    return await kept.results(name, flag, fingerprint(experiments, name), alpha or ALPHA)


def told(results: Results) -> admin_pb2.GetResultsResponse:
    return admin_pb2.GetResultsResponse(
        flag=results.flag,
        control=results.control,
        alpha=results.alpha,
        arms=map(arm_of, results.arms),
        ratio=ratio_of(results.ratio),
        waiting=results.waiting,
    )


def arm_of(arm: ArmResult) -> admin_pb2.ArmResult:
    return admin_pb2.ArmResult(
        variant=arm.variant, sessions=arm.sessions, turns=arm.turns, figures=map(figure_of, arm.figures)
    )


def figure_of(figure: Figure) -> admin_pb2.Figure:
    return admin_pb2.Figure(
        metric=figure.metric,
        statistic=figure.statistic,
        sessions=figure.sessions,
        value=range_of(figure.value),
        difference=range_of(figure.difference) if figure.difference else None,
    )


def range_of(interval: Interval) -> admin_pb2.ValueRange:
    return admin_pb2.ValueRange(value=interval.effect, low=interval.low, high=interval.high)


def ratio_of(ratio: Ratio) -> admin_pb2.RatioCheck:
    arms = (admin_pb2.ArmShare(variant=arm, units=ratio.units[arm], share=share) for arm, share in ratio.shares.items())
    return admin_pb2.RatioCheck(mismatch=ratio.mismatch, log_e=ratio.log_e, alpha=ratio.alpha, arms=arms)
