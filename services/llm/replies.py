"""Prompts to replies: all that is the same whichever library runs the model."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager

from services.llm.chat import Chat
from services.llm.engine import Finished, FinishReason, Limits, Prompt, Sampling, TextDelta
from services.llm.prompts import Fitted
from services.llm.writing import Writer
from services.runtime.errors import Busy

Tokens = Callable[[Fitted, Sampling], AsyncGenerator[int, None]]
"""The tokens of a reply as the model makes them, at most max_tokens. Closing the generator stops the model."""


class Replies:
    """Answers prompts with one loaded model, for many streams at once."""

    def __init__(self, chat: Chat, tokens: Tokens, limits: Limits, most: int) -> None:
        """`most` is how many replies may run or wait at a time."""
        self._chat = chat
        self._tokens = tokens
        self._limits = limits
        self._most = most
        self._running = 0

    async def to(
        self, prompts: AsyncIterator[Prompt], sampling: Sampling
    ) -> AsyncGenerator[TextDelta | Finished, None]:
        """Answer `prompts` one after the other."""
        async for prompt in prompts:
            with self._admitted():
                # Templates and tokenizers take milliseconds for a long prompt, which other streams would wait for.
                fitted = await asyncio.to_thread(self._chat.fit, prompt, self._limits, sampling.max_tokens)
                async with aclosing(self._reply(prompt, fitted, sampling)) as reply:
                    async for output in reply:
                        yield output

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._running >= self._most:
            raise Busy(f"{self._running} replies are running or waiting already")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _reply(
        self, prompt: Prompt, fitted: Fitted, sampling: Sampling
    ) -> AsyncGenerator[TextDelta | Finished, None]:
        begun = fitted.ids[len(fitted.ids) - fitted.begun :]
        writer = Writer(self._chat.tokenizer.decode, sampling.stop, begun, fitted.tail)
        reason, count = FinishReason.MAX_TOKENS, 0
        async with aclosing(self._tokens(fitted, sampling)) as tokens:
            async for token in tokens:
                if token in self._chat.end_ids:
                    reason = FinishReason.END
                    break
                count += 1
                if text := writer.push(token):
                    yield TextDelta(prompt, text)
                if writer.stopped:
                    break
        if rest := writer.rest():
            yield TextDelta(prompt, rest)
        reason = FinishReason.STOP if writer.stopped else reason
        yield Finished(prompt, reason, len(fitted.ids), count, fitted.dropped)
