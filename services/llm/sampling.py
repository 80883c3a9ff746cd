"""The ranges of sampling parameters."""

import math
from collections.abc import Callable

from services.llm.engine import Sampling
from services.runtime.errors import InvalidInput

MAX_STOPS = 16
MAX_STOP_CHARS = 64
MAX_REPETITION_PENALTY = 10.0

Rule = tuple[str, Callable[[Sampling], bool], str]

RULES: tuple[Rule, ...] = (
    ("temperature", lambda s: math.isfinite(s.temperature) and s.temperature >= 0, "0 (greedy) or more"),
    ("top_p", lambda s: 0 < s.top_p <= 1, "more than 0, at most 1"),
    ("top_k", lambda s: s.top_k >= 0, "0 (no limit) or more"),
    (
        "repetition_penalty",
        lambda s: 0 < s.repetition_penalty <= MAX_REPETITION_PENALTY,
        f"more than 0, at most {MAX_REPETITION_PENALTY:g}; 1 is none",
    ),
    ("seed", lambda s: s.seed is None or s.seed >= 0, "0 or more"),
    ("stop", lambda s: len(s.stop) <= MAX_STOPS, f"at most {MAX_STOPS} texts"),
)


def check(sampling: Sampling, max_tokens: int, where: str = "config") -> Sampling:
    """`sampling` itself if every parameter is in its range, else InvalidInput naming the field below `where`."""
    if not 0 < sampling.max_tokens <= max_tokens:
        raise InvalidInput(f"{where}.max_tokens", f"{sampling.max_tokens} is out of range", f"1 to {max_tokens}")
    for name, holds, expected in RULES:
        if not holds(sampling):
            value = getattr(sampling, name)
            shown = f"{len(value)} texts" if name == "stop" else f"{value:g} is out of range"
            raise InvalidInput(f"{where}.{name}", shown, expected)
    for index, text in enumerate(sampling.stop):
        if not 0 < len(text) <= MAX_STOP_CHARS:
            raise InvalidInput(f"{where}.stop[{index}]", f"{len(text)} characters", f"1 to {MAX_STOP_CHARS}")
    return sampling
