"""Chat models in CTranslate2 layout, int8, on CPU or GPU: neither torch nor transformers is needed.

The source is a folder with CTranslate2's own files, tokenizer.json and chat.json (see tools.models).
"""

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import ctranslate2
from pydantic import Field

from services.llm import memory
from services.llm.chat import Chat, Template
from services.llm.engine import Finished, Limits, Prompt, Sampling, TextDelta
from services.llm.options import ChatOptions, parse
from services.llm.prompts import Fitted
from services.llm.replies import Replies
from services.llm.tokenizer import JsonTokenizer
from services.runtime.errors import InvalidInput, LoadFailed, Unavailable

SEEDS = 2**32
TOUCH_TIMEOUT_S = 60.0
TOUCH_TOKENS = 8
Step = Callable[[Any], bool]


class Options(ChatOptions):
    """One thread a worker is the default: more made a token three times slower on two shared cores (11 to 32 ms)."""

    device: Literal["cpu", "cuda"] = "cpu"
    compute_type: Literal["int8", "int8_float16", "float16", "float32", "default"] = "int8"
    threads: int = Field(default=1, ge=1, description="of one worker")
    workers: int = Field(default=4, ge=1, description="replies that run at the same time")
    cached_prefixes: int = Field(default=8, ge=0, description="system messages whose model state is kept")


class CTranslate2Engine:
    """Each reply runs in a worker of CTranslate2; the operating system shares the cores among the workers."""

    def __init__(self, source: Path | None, options: Mapping[str, Any]) -> None:
        if source is None:
            raise InvalidInput("source", "there is none", "the folder of a model in CTranslate2 layout")
        self._source = source
        self._options = parse(Options, options)
        self._defaults = self._options.defaults.sampling()
        self._seeding = threading.Lock()
        self._unloading = threading.Event()
        self._prefixes: set[tuple[int, ...]] = set()

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def defaults(self) -> Sampling:
        return self._defaults

    async def load(self) -> None:
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        facts = self._read_chat()
        self._limits = self._options.limits(facts["context_tokens"])
        self._tokenizer = JsonTokenizer(self._source / "tokenizer.json")
        template = Template(facts["template"], facts["bos_token"], facts["eos_token"])
        end = self._tokenizer.id(facts["eos_token"])
        chat = Chat(template, self._tokenizer, self._options.system_prompt, {end})
        self._end = facts["eos_token"]
        workers = self._options.workers
        memory.share_arenas()
        self._generator = self._new_generator(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="reply")
        self._touch_workers()
        self._replies = Replies(chat, self._tokens, self._limits, workers + self._options.waiting)

    def _read_chat(self) -> dict[str, Any]:
        try:
            facts = json.loads((self._source / "chat.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoadFailed(f"chat.json of {self._source.name}: {error}") from error
        if missing := {"template", "bos_token", "eos_token", "context_tokens"} - facts.keys():
            raise LoadFailed(f"chat.json of {self._source.name}: {', '.join(sorted(missing))} missing")
        return dict(facts)

    def _new_generator(self, workers: int) -> Any:
        try:
            return ctranslate2.Generator(
                str(self._source),
                device=self._options.device,
                compute_type=self._options.compute_type,
                inter_threads=workers,
                intra_threads=self._options.threads,
            )
        except (RuntimeError, ValueError) as error:
            raise LoadFailed(f"{self._source.name}: {error}") from error

    def _touch_workers(self) -> None:
        """Let every worker draw a token: the first that it makes takes 10 to 30 ms longer than later ones.

        None returns from its step before all are in theirs, so that each of them takes one.
        """
        together = threading.Barrier(self._options.workers)
        ids, sampling = (self._tokenizer.id(self._end),) * TOUCH_TOKENS, Sampling(max_tokens=1, temperature=1.0)

        def step(_: Any) -> bool:
            together.wait(TOUCH_TIMEOUT_S)
            return True

        def touch(_: int) -> None:
            self._generate(self._generator, Fitted(ids, 0, 0), sampling, step)

        try:
            list(self._pool.map(touch, range(self._options.workers)))
        except RuntimeError as error:
            raise LoadFailed(f"{self._source.name}: {error}") from error

    async def unload(self) -> None:
        self._unloading.set()
        await asyncio.to_thread(self._pool.shutdown)
        # A Generator that is still there when the interpreter exits aborts the process.
        del self._generator

    def generate(self, config: Sampling, prompts: AsyncIterator[Prompt]) -> AsyncGenerator[TextDelta | Finished, None]:
        return self._replies.to(prompts, config)

    async def _tokens(self, prompt: Fitted, sampling: Sampling) -> AsyncGenerator[int, None]:
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[int | None]()
        stop = threading.Event()

        def step(result: Any) -> bool:
            if stop.is_set() or self._unloading.is_set():
                return True
            if result.step >= prompt.begun:
                loop.call_soon_threadsafe(queue.put_nowait, result.token_id)
            return False

        work = loop.run_in_executor(self._pool, self._run, prompt, sampling, step)
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (token := await queue.get()) is not None:
                yield token
            if self._unloading.is_set():
                raise Unavailable("the model is being unloaded")
            await work
        finally:
            stop.set()
            work.cancel()

    def _run(self, prompt: Fitted, sampling: Sampling, step: Step) -> None:
        if sampling.seed is None or sampling.temperature == 0:
            self._generate(self._generator, prompt, sampling, step)
        else:
            self._run_seeded(prompt, sampling, step)

    def _run_seeded(self, prompt: Fitted, sampling: Sampling, step: Step) -> None:
        """A worker takes the library's seed once, when it first draws: a repeatable reply needs a worker of its own."""
        with self._seeding:
            ctranslate2.set_random_seed(sampling.seed % SEEDS if sampling.seed else 0)
            generator = self._new_generator(1)
            try:
                self._generate(generator, prompt, sampling, step)
            finally:
                ctranslate2.set_random_seed(secrets.randbelow(SEEDS))
                del generator
                memory.give_back()

    def _generate(self, generator: Any, prompt: Fitted, sampling: Sampling, step: Step) -> None:
        greedy = sampling.temperature == 0
        # A reply that was begun is written again and not told: its tokens count for the penalty on repetition, and numbers
        # come out as they did, which they would not if it were read as a part of the prompt.
        again = prompt.begun
        read = len(prompt.ids) - again - 1 if again else self._cached(prompt)
        generator.generate_batch(
            [self._tokenizer.tokens(prompt.ids[read:])],
            static_prompt=self._tokenizer.tokens(prompt.ids[:read]) or None,
            cache_static_prompt=not again,
            max_length=sampling.max_tokens + again,
            end_token=self._end,
            include_prompt_in_result=bool(again),
            beam_size=1,
            sampling_topk=1 if greedy else sampling.top_k,
            sampling_topp=1 if greedy else sampling.top_p,
            sampling_temperature=1 if greedy else sampling.temperature,
            repetition_penalty=sampling.repetition_penalty,
            callback=step,
        )

    def _cached(self, prompt: Fitted) -> int:
        """How many of the first tokens the model need not read again.

        The library never forgets a prefix, so only the first few that are seen are given to it.
        """
        prefix = prompt.ids[: prompt.prefix]
        if not prefix:
            return 0
        if prefix not in self._prefixes and len(self._prefixes) < self._options.cached_prefixes:
            self._prefixes.add(prefix)
        return prompt.prefix if prefix in self._prefixes else 0
