"""Catalog options of language models."""

from typing import Any

import pytest

from services.llm.engine import Limits
from services.llm.options import ChatOptions, parse
from services.runtime.errors import InvalidInput


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"thread": 2}, "options.thread"),
        ({"max_tokens": 0}, "options.max_tokens"),
        ({"max_tokens": "many"}, "options.max_tokens"),
        ({"system_prompt": ""}, "options.system_prompt"),
        ({"defaults": {"temprature": 1}}, "options.defaults.temprature"),
        ({"defaults": {"temperature": -1}}, "options.defaults.temperature"),
        ({"max_tokens": 10, "defaults": {"max_tokens": 11}}, "options.defaults.max_tokens"),
        ({"max_tokens": 100, "defaults": {"stop": [""]}}, "options.defaults.stop[0]"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(ChatOptions, options)
    assert refused.value.field == field


def test_the_context_is_the_models_own_unless_a_shorter_one_is_asked_for() -> None:
    assert parse(ChatOptions, {}).limits(2048) == Limits(2048, 512, 32_000)
    assert parse(ChatOptions, {"context_tokens": 600}).limits(2048).context_tokens == 600


@pytest.mark.parametrize(
    ("options", "field"),
    [({"context_tokens": 4096}, "options.context_tokens"), ({"max_tokens": 2048}, "options.max_tokens")],
)
def test_limits_that_the_model_cannot_keep_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(ChatOptions, options).limits(2048)
    assert refused.value.field == field
