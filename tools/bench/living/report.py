"""The figures of what happened."""

import random
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Any

from talkmesh.conversation.v1 import conversation_pb2
from tools.bench.figures import spread
from tools.bench.living import curve, truth
from tools.bench.living.arms import Kept, Outcome
from tools.bench.living.scenes import Turn

RESAMPLES = 2000
CONFIDENCE = 0.95


def spread_of(values: Iterable[float | None]) -> dict[str, float] | None:
    """Median and 95th percentile; None of nothing."""
    measured = [value for value in values if value is not None]
    return spread(measured) | {"n": len(measured)} if measured else None


def of_outcome(outcome: Outcome) -> dict[str, Any]:
    """What anybody's turns have, peers' too. Turns that were cut off have no times: half a question was answered."""
    timely = [turn for turn in outcome.turns if turn.timely]
    answered = [turn for turn in outcome.turns if not turn.error]
    cut = [turn for turn in answered if turn.cut_off]
    interrupted = [barge_in for barge_in in outcome.barge_ins if not barge_in.error]
    return {
        "turns": len(outcome.turns),
        "unanswered": len(outcome.turns) - len(answered),
        "ttfa_ms": spread_of(turn.ttfa_ms for turn in timely),
        "ttfv_ms": spread_of(turn.ttfv_ms for turn in timely),
        "false_cutoff_rate": round(len(cut) / len(answered), 3) if answered else None,
        "barge_in_ms": spread_of(barge_in.silent_ms for barge_in in interrupted),
        "barge_ins": {
            "interrupted": len(interrupted),
            "failed": len(outcome.barge_ins) - len(interrupted),
            # The old reply made a pause, or was over, when the interruption began.
            "already_silent": sum(barge_in.silent_ms is None for barge_in in interrupted),
        },
    }


def with_pauses(outcomes: Iterable[Outcome], paused: set[str]) -> dict[str, Any]:
    """Cut-offs in questions with pauses alone: the others cannot be cut off in one."""
    turns = [turn for each in outcomes for turn in each.turns if turn.speech in paused]
    answered = [turn for turn in turns if not turn.error]
    cut = sum(turn.cut_off for turn in answered)
    rate = round(cut / len(answered), 3) if answered else None
    return {"turns": len(turns), "unanswered": len(turns) - len(answered), "cut_off": cut, "rate": rate}


def of_records(kept: Kept) -> dict[str, Any]:
    """What only our own sessions tell."""
    offsets = [offset for record, rate_hz, _ in kept.records for offset in truth.offsets_ms(record, rate_hz)]
    frames = [truth.frames(record, rate_hz, fps) for record, rate_hz, fps in kept.records]
    expected = sum(one.expected for one in frames)
    told = [done.told for record, _, _ in kept.records for done in record.done]
    return {
        "stale_chunks": sum(truth.stale(record) for record, _, _ in kept.records),
        "av_offset_ms": spread_of(map(abs, offsets)),
        "av_offset_signed_ms": round(median(offsets), 2) if offsets else None,
        "late_frames_pct": round(100 * sum(one.late + one.missing for one in frames) / expected, 2)
        if expected
        else None,
        **wasted(told),
        **of_barge_ins(kept),
        "waterfall_ms": waterfall(told),
        "microphone_behind_ms": round(kept.behind_ms, 1),
    }


def of_barge_ins(kept: Kept) -> dict[str, Any]:
    """Until the cut was told, until the face was last seen to speak, and whether the told reply is what was received."""
    cuts, faces, errors = [], [], []
    for record, barge_in in kept.barge_ins:
        at = [cut.at for cut in record.cuts if cut.turn == barge_in.turn and cut.at >= barge_in.began]
        seen = [s.at for s in record.pictures if s.turn == barge_in.turn and barge_in.began <= s.at < barge_in.ended]
        cuts += [1000 * (at[0] - barge_in.began)] if at else []
        faces += [1000 * (seen[-1] - barge_in.began)] if seen else []
        if not barge_in.error and (error := truth.played_word_error(record, barge_in.turn)) is not None:
            errors.append(error)
    return {
        "barge_in_cut_ms": spread_of(cuts),
        "barge_in_face_ms": spread_of(faces),
        "played_word_error": round(fmean(errors), 3) if errors else None,
        "played_word_error_max": max(errors, default=None),
    }


def wasted(told: Sequence[conversation_pb2.TurnDone]) -> dict[str, Any]:
    """How many of the replies that were begun early were thrown away, in percent, and how much speech with them."""
    begun = sum(done.speculation.begun for done in told)
    discarded = sum(done.speculation.discarded for done in told)
    discarded_ms = sum(done.speculation.discarded_audio_ms for done in told)
    return {
        "wasted_speculation_pct": round(100 * discarded / begun, 1) if begun else 0.0,
        "speculation": {"begun": begun, "discarded": discarded, "discarded_audio_ms": round(discarded_ms)},
    }


def waterfall(told: Sequence[conversation_pb2.TurnDone]) -> dict[str, float]:
    """Mean ms of each stage, of the turns that have it."""
    stages: dict[str, list[float]] = {}
    for done in told:
        for stage in done.waterfall.stages:
            stages.setdefault(stage.name, []).append(stage.duration_ms)
    return {name: round(fmean(values), 1) for name, values in stages.items()}


def paired(ours: Sequence[Turn], theirs: Sequence[Turn]) -> dict[str, Any]:
    """Both answered the same question one after the other: the difference (theirs less ours), and the medians' ratio."""
    pairs = [
        (mine.ttfa_ms, other.ttfa_ms)
        for mine, other in zip(ours, theirs, strict=True)
        if mine.timely and other.timely and mine.ttfa_ms is not None and other.ttfa_ms is not None
    ]
    if not pairs:
        return {"n": 0, "ratio": None, "difference_ms": None}
    differences = [other - mine for mine, other in pairs]
    low, high = interval(differences)
    return {
        "n": len(pairs),
        "ratio": round(median(mine for mine, _ in pairs) / median(other for _, other in pairs), 3),
        "difference_ms": {"p50": round(median(differences), 1), "low": round(low, 1), "high": round(high, 1)},
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the median lies with CONFIDENCE, by resampling."""
    chance = random.Random(0)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    cut = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return medians[cut], medians[-1 - cut]


def drawn(rows: Sequence[dict[str, Any]]) -> str:
    """The sessions' curve as SVG."""
    lines: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        waits = {key: row[f"ttfv_{key}_ms"] for key in curve.DASHES if row[f"ttfv_{key}_ms"] is not None}
        lines.setdefault(f"{row['size']} px", []).append({"n": row["n"], **waits})
    return curve.svg("From the last word to the first picture of the answer", lines)
