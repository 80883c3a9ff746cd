"""What every language model engine promises, in types that know neither gRPC nor any model library."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Role(Enum):
    """Who says a message; the values are the names that chat templates use."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(Enum):
    """Why a reply ended."""

    END = "end"
    """The model ended it."""
    STOP = "stop"
    """A stop text was met."""
    MAX_TOKENS = "max_tokens"


@dataclass(frozen=True)
class Limits:
    """What a prompt and its reply may measure."""

    context_tokens: int
    """Prompt and reply together."""
    max_tokens: int
    """Most tokens that a reply may be asked to have."""
    max_prompt_chars: int
    """Characters of all the messages of a prompt together."""


@dataclass(frozen=True)
class Sampling:
    """How a reply is drawn from the model."""

    max_tokens: int = 96
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 is no limit."""
    repetition_penalty: float = 1.0
    """Divides the score of tokens that are already in the reply; 1 is none."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """Texts that end the reply; they are not part of it."""


@dataclass(frozen=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True)
class Prompt:
    """A turn to answer. `turn_id` and `generation` come back with everything that is said to it."""

    turn_id: str
    generation: int
    messages: tuple[Message, ...]
    """Oldest first, the user's at the end; a system message can only be the first. If the assistant's comes behind the
    user's, it is the beginning of the reply."""
    arrived_s: float = 0.0
    """When it came, on the clock of time.perf_counter."""


@dataclass(frozen=True)
class TextDelta:
    """The next piece of a reply: never empty, never part of a character."""

    prompt: Prompt
    text: str


@dataclass(frozen=True)
class Finished:
    """The end of a reply."""

    prompt: Prompt
    reason: FinishReason
    prompt_tokens: int
    reply_tokens: int
    dropped_messages: int
    """Oldest messages left out so that the prompt fits the context."""


class LlmEngine(Protocol):
    """A language model that answers prompts. `limits` and `defaults` are known once it is loaded."""

    @property
    def limits(self) -> Limits: ...

    @property
    def defaults(self) -> Sampling: ...

    async def load(self) -> None:
        """Make ready. Raises LoadFailed."""

    async def unload(self) -> None:
        """Give everything back. Replies that still run end within one token, with Unavailable."""

    def generate(self, config: Sampling, prompts: AsyncIterator[Prompt]) -> AsyncGenerator[TextDelta | Finished, None]:
        """Answer each prompt by text deltas and one Finished, one prompt after the other.

        Closing the iterator stops the model within one token. Raises InvalidInput for a prompt that cannot be answered,
        Busy when too many replies wait already.
        """
