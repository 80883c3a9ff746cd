from collections.abc import AsyncIterator

import pytest

from services.runtime.errors import InvalidInput
from services.runtime.streams import config_and_data
from talkmesh.llm.v1.llm_pb2 import GenerateRequest, GenerationConfig, Prompt

CONFIG = GenerateRequest(config=GenerationConfig(max_tokens=3))
PROMPT = GenerateRequest(prompt=Prompt(turn_id="t"))


async def sent(*requests: GenerateRequest) -> AsyncIterator[GenerateRequest]:
    for request in requests:
        yield request


async def test_config_first_then_data() -> None:
    first, data = await config_and_data(sent(CONFIG, PROMPT, PROMPT), GenerationConfig)
    assert first.config.max_tokens == 3
    assert [request.prompt.turn_id async for request in data] == ["t", "t"]


@pytest.mark.parametrize("first", [(), (PROMPT,), (GenerateRequest(),)], ids=["nothing", "data", "empty"])
async def test_a_stream_must_begin_with_its_config(first: tuple[GenerateRequest, ...]) -> None:
    with pytest.raises(InvalidInput, match="GenerationConfig"):
        await config_and_data(sent(*first), GenerationConfig)


@pytest.mark.parametrize(("later", "field"), [(CONFIG, "config"), (GenerateRequest(), "request")])
async def test_what_comes_later_must_be_data(later: GenerateRequest, field: str) -> None:
    _, data = await config_and_data(sent(CONFIG, PROMPT, later), GenerationConfig)
    assert (await anext(data)).prompt.turn_id == "t"
    with pytest.raises(InvalidInput) as caught:
        await anext(data)
    assert caught.value.field == field
