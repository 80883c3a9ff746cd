"""The options that every language model engine takes from its catalog entry."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from services.llm import sampling
from services.llm.engine import Limits, Sampling
from services.runtime.errors import InvalidInput
from services.runtime.options import of_engine

Options = TypeVar("Options", bound=BaseModel)


class Defaults(BaseModel):
    """Sampling where a stream's config says nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Sampling.max_tokens
    temperature: float = Sampling.temperature
    top_p: float = Sampling.top_p
    top_k: int = Sampling.top_k
    repetition_penalty: float = Sampling.repetition_penalty
    stop: tuple[str, ...] = Sampling.stop

    def sampling(self) -> Sampling:
        return Sampling(**self.model_dump())


class ChatOptions(BaseModel):
    """Limits and defaults of a chat model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context_tokens: int | None = Field(default=None, ge=16, description="less than the model's own, to answer sooner")
    max_tokens: int = Field(default=512, ge=1, description="most that a config may ask for")
    max_prompt_chars: int = Field(default=32_000, ge=1)
    system_prompt: str | None = Field(default=None, min_length=1, description="when a prompt has no system message")
    waiting: int = Field(default=32, ge=0, description="replies that may wait for a free worker")
    defaults: Defaults = Defaults()

    def limits(self, model_tokens: int) -> Limits:
        """The limits of a model that was trained to see `model_tokens`. Raises InvalidInput where they do not fit it."""
        context = self.context_tokens or model_tokens
        if context > model_tokens:
            raise InvalidInput(
                "options.context_tokens", f"{context} is more than the model can", f"at most {model_tokens}"
            )
        if self.max_tokens >= context:
            raise InvalidInput("options.max_tokens", f"{self.max_tokens} leaves no room", f"less than {context}")
        return Limits(context, self.max_tokens, self.max_prompt_chars)


def parse(kind: type[Options], options: Mapping[str, Any]) -> Options:
    """`options` as `kind`. Raises InvalidInput naming the first option that is wrong."""
    parsed = of_engine(kind, options)
    if isinstance(parsed, ChatOptions):
        sampling.check(parsed.defaults.sampling(), parsed.max_tokens, "options.defaults")
    return parsed
