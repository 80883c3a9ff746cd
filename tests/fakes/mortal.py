"""Five services in this process whose models come and go: each of their streams ends as DRAINED where a test wants it to.

What they say can be checked: a word is heard as samples of one value that is its own, a face shows the value of the word
that it speaks, a picture carries the sample of its frame.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import grpc
import numpy as np

from gateway.mesh import Place
from services.runtime import channels
from services.runtime.errors import Drained, InvalidInput, NotFound
from services.runtime.statuses import told_as_status
from talkmesh.animation.v1 import animation_pb2, animation_pb2_grpc
from talkmesh.asr.v1 import asr_pb2, asr_pb2_grpc
from talkmesh.audio.v1 import audio_pb2, speech_pb2
from talkmesh.llm.v1 import llm_pb2, llm_pb2_grpc
from talkmesh.model.v1 import model_pb2
from talkmesh.render.v1 import render_pb2, render_pb2_grpc
from talkmesh.tts.v1 import tts_pb2, tts_pb2_grpc

SERVICES = ("asr", "llm", "tts", "animation", "render")
NAMES = ("jawOpen", "mouthClose", "browInnerUp")
CHUNK = 960
PAUSE = 700
MAX_UTTERANCE_MS = 2000
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class Fate:
    """What happens to the streams of one service."""

    ends: list[int] = field(default_factory=list)
    """Of the first stream, the second, …: the responses after which it ends; streams beyond the list live on."""
    opened: int = 0
    generation: int = 1
    """Of new streams."""
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: streams that are open now end."""
    requests: list[Any] = field(default_factory=list)
    """All that was received, with the number of its stream."""
    endings: list[str] = field(default_factory=list)


@dataclass
class World:
    """The services, and the settings of all that is fake about them."""

    reply: str = ""
    voices: Sequence[Sequence[str]] = ((),)
    """Of each model; the last holds for those after it."""
    knows_words: bool = True
    names: Sequence[Sequence[str]] = (NAMES,)
    sizes: Sequence[int] = (64,)
    fates: dict[str, Fate] = field(default_factory=lambda: {name: Fate() for name in SERVICES})
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    @property
    def asr(self) -> "asr_pb2_grpc.AsrServiceAsyncStub":
        return asr_pb2_grpc.AsrServiceStub(self.channels["asr"])

    @property
    def llm(self) -> "llm_pb2_grpc.LlmServiceAsyncStub":
        return llm_pb2_grpc.LlmServiceStub(self.channels["llm"])

    @property
    def tts(self) -> "tts_pb2_grpc.TtsServiceAsyncStub":
        return tts_pb2_grpc.TtsServiceStub(self.channels["tts"])

    @property
    def animation(self) -> "animation_pb2_grpc.AnimationServiceAsyncStub":
        return animation_pb2_grpc.AnimationServiceStub(self.channels["animation"])

    @property
    def render(self) -> "render_pb2_grpc.RenderServiceAsyncStub":
        return render_pb2_grpc.RenderServiceStub(self.channels["render"])

    def place(self, service: str) -> Place:
        return Place(self.fates[service].generation)

    def leave_variants(self) -> bool:
        return False

    def blame_variants(self) -> None:
        raise AssertionError("there are none")

    def swap(self, *services: str) -> None:
        """New streams get the next model."""
        for service in services:
            self.fates[service].generation += 1

    def drain(self, *services: str) -> None:
        """The deadline after a swap: open streams end."""
        for service in services:
            self.fates[service].leave.set()
            self.fates[service].leave = asyncio.Event()

    def of(self, service: str, values: Sequence[Any]) -> Any:
        """What holds for the model that is active now."""
        return values[min(self.fates[service].generation, len(values)) - 1]


@dataclass
class Life:
    """One stream, and the model that serves it."""

    fate: Fate
    service: str
    generation: int
    leave: asyncio.Event
    left: int | None

    @property
    def model(self) -> model_pb2.ServingModel:
        return model_pb2.ServingModel(
            service=self.service,
            model=f"{self.service}-{self.generation}",
            engine="fake",
            slot="stable",
            slot_generation=self.generation,
        )

    async def of(self, responses: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """`responses` until the model's time is over. Raises Drained."""
        leaving = asyncio.ensure_future(self.leave.wait())
        try:
            while True:
                if self.left == 0:
                    self.fate.generation = max(self.fate.generation, self.generation + 1)
                    raise Drained(f"{self.service}: the model's time is over")
                coming = asyncio.ensure_future(anext(responses, None))
                await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait({coming})
                    raise Drained(f"{self.service}: the deadline is over")
                if (response := coming.result()) is None:
                    return
                yield response
                if self.left is not None:
                    self.left -= 1
        finally:
            leaving.cancel()


async def noted(requests: AsyncIterator[Any], life: Life) -> AsyncIterator[Any]:
    async for request in requests:
        life.fate.requests.append((life.generation, request))
        yield request


class Fake:
    """A servicer of one of the five."""

    service = ""

    def __init__(self, world: World) -> None:
        self.world = world

    async def serve(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        fate = self.world.fates[self.service]
        left = fate.ends[fate.opened] if fate.opened < len(fate.ends) else None
        life = Life(fate, self.service, fate.generation, fate.leave, left)
        fate.opened += 1
        ending = "cancelled"
        try:
            async with aclosing(life.of(self.responses(noted(requests, life), life))) as living:  # type: ignore[type-var]
                async for response in living:
                    yield response
            ending = "ended"
        except Drained:
            ending = "drained"
            raise
        finally:
            fate.endings.append(ending)

    def responses(self, requests: AsyncIterator[Any], life: Life) -> AsyncIterator[Any]:
        raise NotImplementedError


class FakeLlm(Fake, llm_pb2_grpc.LlmServiceServicer):
    """Writes the world's reply, or the rest of it behind what the prompt begins it with."""

    service = "llm"

    @told_as_status
    async def Generate(self, requests: Any, context: Context) -> AsyncIterator[llm_pb2.GenerateResponse]:
        async for response in self.serve(requests, context):
            yield response

    async def responses(self, requests: AsyncIterator[Any], life: Life) -> AsyncIterator[Any]:
        config = (await anext(requests)).config
        yield llm_pb2.GenerateResponse(started=llm_pb2.GenerationStarted(model=life.model))
        async for request in requests:
            rest = self._rest(request.prompt.messages)
            words = rest.split(" ")
            tokens = [word if index == 0 else f" {word}" for index, word in enumerate(words) if rest]
            for token in filter(None, tokens[: config.max_tokens]):
                yield llm_pb2.GenerateResponse(delta=llm_pb2.TextDelta(text=token))
                await asyncio.sleep(0)
            yield llm_pb2.GenerateResponse(finished=llm_pb2.Finished(reply_tokens=len(list(filter(None, tokens)))))

    def _rest(self, messages: Sequence[llm_pb2.Message]) -> str:
        if messages[-1].role != llm_pb2.ROLE_ASSISTANT:
            return self.world.reply
        if not self.world.reply.startswith(messages[-1].content):
            raise InvalidInput("prompt", f"{messages[-1].content!r} is not how the reply begins")
        return self.world.reply[len(messages[-1].content) :]


def value_of(word: str) -> int:
    """How a word sounds: never 0, which is silence."""
    return 1 + sum(ord(letter) * (index + 1) * 31 for index, letter in enumerate(word)) % 32000


def spoken_words(text: str) -> list[str]:
    return [word for part in text.split() if (word := part.strip(".,!?;:"))]


class FakeTts(Fake, tts_pb2_grpc.TtsServiceServicer):
    """Speaks each word as samples of its own value, each model at its own pace, with a pause after every clause."""

    service = "tts"

    @told_as_status
    async def Synthesize(self, requests: Any, context: Context) -> AsyncIterator[tts_pb2.SynthesizeResponse]:
        async for response in self.serve(requests, context):
            yield response

    async def responses(self, requests: AsyncIterator[Any], life: Life) -> AsyncIterator[Any]:
        config = (await anext(requests)).config
        voices = self.world.of("tts", self.world.voices)
        if config.voice and config.voice not in voices:
            raise NotFound("voice", config.voice, voices)
        started = tts_pb2.SynthesisStarted(model=life.model, sample_rate_hz=config.sample_rate_hz, voices=voices)
        yield tts_pb2.SynthesizeResponse(started=started)
        clock = 0
        async for request in requests:
            words = spoken_words(request.clause.text)
            if not words:
                raise InvalidInput("clause.text", "is empty", "text to speak")
            spans, end = laid_out(words, clock, 900 + 260 * life.generation)
            yield tts_pb2.SynthesizeResponse(speech=self._speech(request.clause, spans, clock, end))
            for chunk in chunks(spans, clock, end):
                yield tts_pb2.SynthesizeResponse(audio=chunk)
            done = tts_pb2.ClauseDone(clause_index=request.clause.index, start_sample=clock, end_sample=end)
            yield tts_pb2.SynthesizeResponse(done=done)
            clock = end

    def _speech(self, clause: tts_pb2.Clause, spans: list[Any], start: int, end: int) -> tts_pb2.ClauseSpeech:
        told = tts_pb2.ClauseSpeech(clause_index=clause.index, start_sample=start)
        if not self.world.knows_words:
            return told
        told.words.extend(spans)
        sounds = [("", start, spans[0].start_sample), *((w.word, w.start_sample, w.end_sample) for w in spans)]
        for sound, first, last in [*sounds, ("", spans[-1].end_sample, end)]:
            told.phonemes.append(speech_pb2.PhonemeSpan(phoneme=sound, start_sample=first, end_sample=last))
        return told


def laid_out(words: Sequence[str], at: int, length: int) -> tuple[list[speech_pb2.WordSpan], int]:
    """Where the words of a clause lie, and where it ends: a short silence, words that touch, a pause."""
    spans, at = [], at + 50
    for word in words:
        last = at + length + 37 * len(word)
        spans.append(speech_pb2.WordSpan(word=word, start_sample=at, end_sample=last))
        at = last
    return spans, at + PAUSE


def chunks(spans: Sequence[speech_pb2.WordSpan], start: int, end: int) -> Iterator[audio_pb2.AudioChunk]:
    samples = np.zeros(end - start, "<i2")
    for span in spans:
        samples[span.start_sample - start : span.end_sample - start] = value_of(span.word)
    for at in range(0, len(samples), CHUNK):
        yield audio_pb2.AudioChunk(start_sample=start + at, data=samples[at : at + CHUNK].tobytes())


class FakeAnimation(Fake, animation_pb2_grpc.AnimationServiceServicer):
    """Shows the value of the word that is heard in each frame as the first named weight, in thousandths as head."""

    service = "animation"

    @told_as_status
    async def Animate(self, requests: Any, context: Context) -> AsyncIterator[animation_pb2.AnimateResponse]:
        async for response in self.serve(requests, context):
            yield response

    async def responses(self, requests: AsyncIterator[Any], life: Life) -> AsyncIterator[Any]:
        config = (await anext(requests)).config
        names = self.world.of("animation", self.world.names)
        started = animation_pb2.AnimationStarted(model=life.model, blendshape_names=names)
        yield animation_pb2.AnimateResponse(started=started)
        step = config.sample_rate_hz * config.fps_denominator // config.fps_numerator
        at = -(-config.start_sample // step) * step
        said: list[tuple[int, int, str, str]] = []
        async for request in requests:
            match request.WhichOneof("request"):
                case "speech":
                    said += [
                        (p.start_sample, p.end_sample, p.phoneme, request.speech.turn_id)
                        for p in request.speech.phonemes
                    ]
                case "interrupt":
                    cut = request.interrupt.at_sample
                    said = [(a, min(b, cut), word, turn) for a, b, word, turn in said if a < cut]
            while request.WhichOneof("request") == "advance" and at < request.advance.until_sample:
                yield animation_pb2.AnimateResponse(frame=self._frame(at, said, names, life))
                at += step

    def _frame(self, at: int, said: list[Any], names: Sequence[str], life: Life) -> animation_pb2.FaceFrame:
        heard = next(((word, turn) for a, b, word, turn in reversed(said) if a <= at < b), ("", ""))
        weights = dict.fromkeys(names, 0.0)
        weights["jawOpen"] = value_of(heard[0]) / 32768 if heard[0] else 0.0
        weights["browInnerUp"] = min(1.0, 0.2 * life.generation)
        head = animation_pb2.HeadPose(yaw=10.0 * life.generation, scale=1.0)
        return animation_pb2.FaceFrame(turn_id=heard[1], start_sample=at, weights=weights.values(), head=head)


class FakeRender(Fake, render_pb2_grpc.RenderServiceServicer):
    """A picture is its frame's start, its model and its size in words."""

    service = "render"

    @told_as_status
    async def Render(self, requests: Any, context: Context) -> AsyncIterator[render_pb2.RenderResponse]:
        async for response in self.serve(requests, context):
            yield response

    async def responses(self, requests: AsyncIterator[Any], life: Life) -> AsyncIterator[Any]:
        config = (await anext(requests)).config
        size = config.width or self.world.of("render", self.world.sizes)
        portrait = config.portrait or f"portrait-{life.generation}"
        yield render_pb2.RenderResponse(
            started=render_pb2.RenderStarted(model=life.model, width=size, height=size, portrait=portrait)
        )
        keyframe = True
        async for request in requests:
            if request.HasField("keyframe"):
                keyframe = True
                continue
            frame = request.frame
            yield render_pb2.RenderResponse(
                frame=render_pb2.VideoFrame(
                    turn_id=frame.turn_id,
                    start_sample=frame.start_sample,
                    data=f"{frame.start_sample} {life.model.model} {size} {portrait}".encode(),
                    keyframe=keyframe,
                )
            )
            keyframe = False


class FakeAsr(Fake, asr_pb2_grpc.AsrServiceServicer):
    """Hears the runs of equal values in 16 bit audio as words, as `FakeTts` says them: v17 v4 …"""

    service = "asr"

    @told_as_status
    async def StreamingRecognize(self, requests: Any, context: Context) -> AsyncIterator[Any]:
        async for response in self.serve(requests, context):
            yield response

    async def responses(self, requests: AsyncIterator[Any], life: Life) -> AsyncIterator[Any]:
        await anext(requests)
        started = asr_pb2.RecognitionStarted(model=life.model, max_utterance_ms=MAX_UTTERANCE_MS, max_chunk_ms=1000)
        yield asr_pb2.StreamingRecognizeResponse(started=started)
        start = end = number = 0
        heard: list[int] = []
        speaking, first = False, True
        async for request in requests:
            if request.HasField("audio"):
                if not first and request.audio.start_sample != end:
                    raise InvalidInput("audio.start_sample", f"got {request.audio.start_sample}", str(end))
                start = request.audio.start_sample if first else start
                first = False
                samples = np.frombuffer(request.audio.data, "<i2")
                end = request.audio.start_sample + len(samples)
                heard += samples.tolist()
                if bool(samples.any()) != speaking:
                    speaking = not speaking
                    kind = (
                        asr_pb2.SpeechActivity.KIND_SPEECH_STARTED
                        if speaking
                        else asr_pb2.SpeechActivity.KIND_SPEECH_ENDED
                    )
                    activity = asr_pb2.SpeechActivity(kind=kind, sample=request.audio.start_sample)
                    yield asr_pb2.StreamingRecognizeResponse(activity=activity)
                interim = asr_pb2.Transcript(utterance=number, text=words_in(heard), start_sample=start, end_sample=end)
                yield asr_pb2.StreamingRecognizeResponse(transcript=interim)
            else:
                yield final(request.flush.turn_id, number, words_in(heard), start, end)
                number, start = number + 1, end
                heard.clear()
        if end > start:
            yield final("", number, words_in(heard), start, end)


def words_in(samples: Sequence[int]) -> str:
    values = [samples[0], *(b for a, b in pairwise(samples) if a != b)] if samples else []
    return " ".join(f"v{value}" for value in values if value)


def final(turn_id: str, number: int, text: str, start: int, end: int) -> asr_pb2.StreamingRecognizeResponse:
    transcript = asr_pb2.Transcript(
        turn_id=turn_id, utterance=number, is_final=True, text=text, start_sample=start, end_sample=end
    )
    return asr_pb2.StreamingRecognizeResponse(transcript=transcript)


ADDERS: dict[str, Callable[[World, grpc.aio.Server], None]] = {
    "asr": lambda world, server: asr_pb2_grpc.add_AsrServiceServicer_to_server(FakeAsr(world), server),
    "llm": lambda world, server: llm_pb2_grpc.add_LlmServiceServicer_to_server(FakeLlm(world), server),
    "tts": lambda world, server: tts_pb2_grpc.add_TtsServiceServicer_to_server(FakeTts(world), server),
    "animation": lambda world, server: animation_pb2_grpc.add_AnimationServiceServicer_to_server(
        FakeAnimation(world), server
    ),
    "render": lambda world, server: render_pb2_grpc.add_RenderServiceServicer_to_server(FakeRender(world), server),
}


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[World]:
    """The world's services on ports of their own, and channels to them."""
    async with AsyncExitStack() as stack:
        for name, add in ADDERS.items():
            server = channels.server()
            add(world, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, None)
            channel = await stack.enter_async_context(channels.channel(f"127.0.0.1:{port}"))
            await channel.channel_ready()
            world.channels[name] = channel
        yield world
