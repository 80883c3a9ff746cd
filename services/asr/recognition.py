"""One stream's recognition, from its inputs to its outputs."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from services.asr.draft import Believed, Draft, abandoned
from services.asr.engine import (
    Audio,
    Flush,
    Input,
    Output,
    RecognitionConfig,
    Samples,
    SpeechActivity,
    Transcript,
    Word,
)
from services.asr.hypothesis import Hypothesis, agreement, joined
from services.asr.interims import SETTLED
from services.asr.resampling import RATE_HZ, Clock, Resampler
from services.asr.silero import SpeechProbabilities
from services.asr.turns import TurnListener
from services.asr.utterance import Cut, Utterance

SETTLED_STABILITY = 0.9
"""Least stability of an interim that has heard a pause after all speech so far: it is the final if nothing follows."""


class Recognition:
    """Made for one stream, used once."""

    def __init__(
        self,
        config: RecognitionConfig,
        probabilities: SpeechProbabilities,
        utterance: Utterance,
        draft: Draft,
        listener: TurnListener | None = None,
    ) -> None:
        self._config = config
        self._probabilities = probabilities
        self._utterance = utterance
        self._draft = draft
        self._listener = listener
        self._resampler = Resampler(config.sample_rate_hz)
        self._clock = Clock(0, config.sample_rate_hz)
        self._started = False
        self._start_sample = 0
        self._end_sample = 0
        self._number = 0
        self._said = ("", 0.0)
        """Text and stability of the last interim."""

    async def outputs(self, inputs: AsyncIterator[Input]) -> AsyncGenerator[Output, None]:
        """Everything there is to tell about `inputs`, until they end."""
        reading: asyncio.Future[Input | None] = asyncio.ensure_future(following(inputs))
        try:
            while True:
                waited: set[asyncio.Future[Any]] = {reading, *self._draft.running}
                if self._listener:
                    waited |= {*self._listener.running}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if self._listener and (prediction := self._listener.take()):
                    yield replace(prediction, sample=self._clock.to_input(prediction.sample))
                if interim := self._interim(self._draft.take()):
                    yield interim
                if reading.done():
                    if (item := reading.result()) is None:
                        break
                    for output in await self._answer(item):
                        yield output
                    reading = asyncio.ensure_future(following(inputs))
                self._draft.start_if_due(self._utterance)
                if self._listener:
                    self._listener.start_if_due(self._utterance)
            if self._end_sample > self._start_sample:
                yield await self._final(None)
        finally:
            await abandoned([reading])
            await self._draft.close()
            if self._listener:
                await abandoned(self._listener.running)

    async def _answer(self, item: Input) -> list[Output]:
        if isinstance(item, Flush):
            if self._listener:
                self._listener.begin_turn()
            return [await self._final(item)]
        outputs: list[Output] = []
        for piece in self._pieces(item):
            outputs += await self._hear(piece)
            if self._silent_for_long() or self._utterance.has_to_end:
                outputs.append(await self._final(None))
        return outputs

    def _pieces(self, audio: Audio) -> Iterator[Audio]:
        """At most 100 ms each: a long chunk may hold the end of one utterance and the beginning of the next."""
        step = self._config.sample_rate_hz // 10
        for at in range(0, len(audio.samples), step):
            yield Audio(audio.start_sample + at, audio.samples[at : at + step])

    def _silent_for_long(self) -> bool:
        limit = self._config.end_silence_ms * RATE_HZ // 1000
        return 0 < limit <= self._utterance.detector.silence and self._utterance.has_speech

    async def _hear(self, audio: Audio) -> list[Output]:
        if not self._started:
            self._started = True
            self._clock = Clock(audio.start_sample, self._config.sample_rate_hz)
            self._start_sample = audio.start_sample
        samples, probabilities = await asyncio.to_thread(self._analyse, audio.samples)
        if self._listener:
            self._listener.append(samples)
        changes, cuts = self._utterance.append(samples, probabilities)
        outputs: list[Output] = [
            SpeechActivity(change.kind, self._clock.to_input(change.position)) for change in changes
        ]
        self._end_sample = audio.start_sample + len(audio.samples)
        for cut in cuts:
            self._draft.end_window(cut)
            if cut.ends_utterance:
                outputs.append(await self._final_of_windows(cut))
        return outputs

    def _analyse(self, samples: Samples) -> tuple[Samples, list[float]]:
        resampled = self._resampler.push(samples)
        return resampled, self._probabilities.push(resampled)

    def _interim(self, believed: Believed | None) -> Transcript | None:
        """What to tell of a finished decode: nothing if it says nothing new. That a text is settled is news."""
        if believed is None or not self._config.interim_results:
            return None
        hypotheses = self._draft.so_far()
        text = joined([hypothesis.text for hypothesis in hypotheses])
        stability = agreement(text, self._said[0])
        settled = believed.heard_until >= self._utterance.window.speech_end + SETTLED
        if settled:
            stability = max(stability, SETTLED_STABILITY)
        if not text or ((text, stability) == self._said and not settled):
            return None
        self._said = (text, stability)
        return Transcript(
            utterance=self._number,
            is_final=False,
            text=text,
            stability=stability,
            language=hypotheses[-1].language,
            words=(),
            start_sample=self._start_sample,
            end_sample=self._clock.to_input(believed.heard_until),
            engine_ms=believed.decode_s * 1000,
        )

    async def _final(self, flush: Flush | None) -> Transcript:
        """End the utterance and tell what was said in it."""
        began = time.perf_counter()
        hypotheses = await self._draft.complete(self._utterance)
        self._utterance.begin_next()
        return self._told(hypotheses, self._end_sample, began, flush)

    async def _final_of_windows(self, cut: Cut) -> Transcript:
        """End a long utterance with the window that has just ended."""
        began = time.perf_counter()
        hypotheses = await self._draft.ended()
        self._utterance.begin_next_at(cut)
        return self._told(hypotheses, self._clock.to_input(cut.at), began, None)

    def _told(self, hypotheses: list[Hypothesis], end_sample: int, began: float, flush: Flush | None) -> Transcript:
        transcript = Transcript(
            utterance=self._number,
            is_final=True,
            text=joined([hypothesis.text for hypothesis in hypotheses]),
            stability=1.0,
            language=hypotheses[-1].language if hypotheses else self._config.language,
            words=[self._on_input_clock(word) for hypothesis in hypotheses for word in hypothesis.words],
            start_sample=self._start_sample,
            end_sample=end_sample,
            engine_ms=(time.perf_counter() - began) * 1000,
            flush=flush,
        )
        self._number, self._start_sample, self._said = self._number + 1, end_sample, ("", 0.0)
        return transcript

    def _on_input_clock(self, word: Word) -> Word:
        start, end = self._clock.to_input(word.start_sample), self._clock.to_input(word.end_sample)
        return replace(word, start_sample=start, end_sample=min(end, self._end_sample))


async def following(inputs: AsyncIterator[Input]) -> Input | None:
    """The next input; None at their end."""
    return await anext(inputs, None)
