"""The ranges of sampling parameters."""

import math
from typing import Any

import pytest

from services.llm.engine import Sampling
from services.llm.sampling import check
from services.runtime.errors import InvalidInput


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 101),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", math.nan),
        ("top_k", -1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", 11.0),
        ("repetition_penalty", math.nan),
        ("seed", -1),
        ("stop", ("x",) * 17),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(Sampling(**{field: value}), max_tokens=100)
    assert refused.value.field == f"config.{field}"
    assert refused.value.expected


@pytest.mark.parametrize("text", ["", "x" * 65])
def test_a_stop_text_of_the_wrong_length_is_refused_by_its_place(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(Sampling(stop=("fine", text)), max_tokens=100)
    assert refused.value.field == "config.stop[1]"


def test_the_edges_are_in_range() -> None:
    edge = Sampling(100, 0.0, 1.0, 0, 10.0, 0, ("x" * 64,) * 16)
    assert check(edge, max_tokens=100) is edge
