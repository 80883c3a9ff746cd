"""The gateway's part of a turn's trace: the turn itself, and where its time went. Not what was said in it."""

import time
from collections.abc import Iterable

from gateway.waterfall import Waterfall
from services.runtime import tracing
from services.runtime.tracing import Figure, Span
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.model.v1 import model_pb2

CUT_SHORT = "cut_short"
"""The outcome of a turn in the midst of which its call ended."""


def turn_over(turn_id: str, waterfall: Waterfall, done: conversation_pb2.TurnDone | None) -> None:
    """Write that a turn is over now, with the stages that it reached; None: it came to no end of its own."""
    if not tracing.is_on():
        return
    now = time.perf_counter()
    began = now if waterfall.began is None else waterfall.began
    figures: dict[str, Figure] = {"turn_id": turn_id, "outcome": CUT_SHORT}
    if done:
        figures |= told(done)
    failed = done is not None and done.outcome == conversation_pb2.OUTCOME_FAILED
    tracing.write(turn_id, *stages(waterfall), root=Span("turn", began, now, figures, failed=failed))


def draft_discarded(turn_id: str, began: float) -> None:
    """Write that a reply, begun at `began` on a guess, was for nothing. Its turn may never come to be."""
    figures: dict[str, Figure] = {"turn_id": turn_id, "discarded": True}
    tracing.write(turn_id, Span("draft", began, time.perf_counter(), figures))


def stages(waterfall: Waterfall) -> Iterable[Span]:
    for name, begin, end in waterfall.reached():
        yield Span(name, begin, end, {"engine_ms": waterfall.engine_ms[name]})


def told(done: conversation_pb2.TurnDone) -> dict[str, Figure]:
    """What can be said of a turn without saying what was said in it."""
    return {
        "outcome": conversation_pb2.Outcome.Name(done.outcome).removeprefix("OUTCOME_").lower(),
        "reply_tokens": done.reply_tokens,
        "video_frames": done.video_frames,
        "first_audio_ms": done.waterfall.first_audio_ms,
        "first_video_ms": done.waterfall.first_video_ms,
        "drafts.begun": done.speculation.begun,
        "drafts.discarded": done.speculation.discarded,
        **served(done.models),
    }


def served(models: Iterable[model_pb2.ServingModel]) -> dict[str, Figure]:
    """The model of each service and its generation; where one took over from another, all names and the last generation."""
    figures: dict[str, Figure] = {}
    for model in models:
        before = figures.get(f"{model.service}.model")
        figures[f"{model.service}.model"] = f"{before},{model.model}" if before else model.model
        figures[f"{model.service}.generation"] = model.slot_generation
    return figures
