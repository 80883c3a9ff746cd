"""A conversation as the text, and the tokens, that a chat model was trained on."""

import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import takewhile
from typing import Any, NoReturn, Protocol

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.llm import prompts
from services.llm.engine import Limits, Message, Prompt, Role
from services.llm.prompts import Fitted
from services.runtime.errors import InvalidInput, LoadFailed

KNOWN_PREFIXES = 64
PROBES = ("a", "1")
"""Two user messages that share no token, to find where what they say begins in a prompt."""


class Tokenizer(Protocol):
    """Text to tokens and back. Special tokens are recognised in `encode` and left out by `decode`."""

    @property
    def special(self) -> Iterable[str]: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Template:
    """A model's own chat template. It comes with the weights, so it runs in a sandbox that lets it change nothing."""

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        """Raises LoadFailed if `source` is no template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = plain_json
        environment.globals.update(raise_exception=refuse, strftime_now=now, bos_token=bos_token, eos_token=eos_token)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise LoadFailed(f"the chat template is broken: {error}") from error

    def render(self, messages: Sequence[Message]) -> str:
        """The text of `messages` up to where the assistant's reply begins.

        Raises InvalidInput if the template refuses them, as some do with a system message.
        """
        plain = [{"role": message.role.value, "content": message.content} for message in messages]
        try:
            return self._template.render(messages=plain, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise InvalidInput("prompt.messages", f"the model's chat template refuses them: {error}") from error


def refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def now(form: str) -> str:
    return datetime.now().strftime(form)


def plain_json(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


class Chat:
    """How one model is talked to: its template, its tokens, and the system message when a prompt has none."""

    def __init__(self, template: Template, tokenizer: Tokenizer, system: str | None, end_ids: Iterable[int]) -> None:
        """Without `system`, the template's own default holds. `end_ids` are the tokens that end a reply."""
        self.tokenizer = tokenizer
        self.end_ids = frozenset(end_ids)
        self._template = template
        self._system = system
        words = sorted(filter(None, tokenizer.special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, words))) if words else None
        self._prefix = lru_cache(KNOWN_PREFIXES)(self._find_prefix)

    def fit(self, prompt: Prompt, limits: Limits, max_tokens: int) -> Fitted:
        """The tokens of `prompt`, its oldest messages dropped until a reply of `max_tokens` fits too.

        Raises InvalidInput for a prompt that is no conversation or does not fit.
        """
        prompts.check(prompt.messages, limits)
        asked, reply = prompts.parted(prompt.messages)
        messages, begun = self._opened(asked), self._begun(reply.rstrip())
        ids, dropped = prompts.fit(messages, self._encode, limits.context_tokens - max_tokens - len(begun))
        prefix = self._prefix(messages[0].content if messages[0].role is Role.SYSTEM else None)
        same = len(prefix) if tuple(ids[: len(prefix)]) == prefix else 0
        return Fitted((*ids, *begun), same, dropped, len(begun), reply[len(reply.rstrip()) :])

    def _opened(self, messages: Sequence[Message]) -> Sequence[Message]:
        if self._system is None or messages[0].role is Role.SYSTEM:
            return messages
        return [Message(Role.SYSTEM, self._system), *messages]

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        plain = [Message(message.role, self._harmless(message.content)) for message in messages]
        return self.tokenizer.encode(self._template.render(plain))

    def _begun(self, reply: str) -> list[int]:
        """The tokens of the beginning of a reply, as they follow on those of any prompt.

        Tokenizers that mark the beginning of a text would mark it in the middle if it were encoded alone; others would join
        its first letters with the prompt's last ones if both were encoded together.
        """
        if not reply:
            return []
        before = self._template.render([Message(Role.USER, PROBES[0])])
        alone, together = self.tokenizer.encode(before), self.tokenizer.encode(before + self._harmless(reply))
        if together[: len(alone)] == alone:
            return together[len(alone) :]
        return self.tokenizer.encode(self._harmless(reply))

    def _harmless(self, content: str) -> str:
        """`content` with the names of special tokens broken up, so that nobody ends a message from inside it."""
        if self._special is None:
            return content
        return self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", content)

    def _find_prefix(self, system: str | None) -> tuple[int, ...]:
        opening = [] if system is None else [Message(Role.SYSTEM, system)]
        probed = [self._encode([*opening, Message(Role.USER, probe)]) for probe in PROBES]
        return tuple(pair[0] for pair in takewhile(lambda pair: pair[0] == pair[1], zip(*probed, strict=False)))
