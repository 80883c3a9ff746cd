"""Conversations with pipecat: `python -m tools.bench.peers.pipecat_runtime`, driven by lines of JSON.

Runs in pipecat's own environment: of ours only the stubs and what imports the standard library and numpy may be imported
here. Each line in is a command, answered by one line: {"do": "open", …}, then any of {"do": "ask", …} and
{"do": "interrupt", …}, then {"do": "close"}. Moments are of time.monotonic, which all processes of a machine share.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import InterruptionFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.tts_service import TextAggregationMode
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from services.runtime.lifeline import die_with_parent_if_asked
from talkmesh.flow import FLOW_CONTROL
from tools.bench.living import scenes
from tools.bench.living.loudspeaker import Loudspeaker
from tools.bench.living.microphone import Microphone
from tools.bench.living.speech import Speech
from tools.bench.peers.pipecat_services import IN_HZ, OUT_HZ, Engines, Recognition, Speaking, Writing
from tools.bench.peers.pipecat_transport import LoudspeakerOutput, MicrophoneInput

STARTED_S = 30.0
QUIET_S = 0.3


def listening(arm: str) -> LLMUserAggregatorParams:
    """How the end of a turn is found. "default" names nothing that need not be named: Silero, then Smart Turn.

    The others end it with the VAD's silence: 200 ms, which pipecat recommends, and the least that it is sold with.
    """
    if arm == "default":
        return LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    at_once = UserTurnStrategies(stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.0)])
    return LLMUserAggregatorParams(
        vad_analyzer=SileroVADAnalyzer(params=VADParams(stop_secs=0.2)), user_turn_strategies=at_once
    )


class Pipecat:
    """A running pipeline; a Party."""

    draws = False
    turn = ""

    def __init__(self, arm: str, engines: Engines, silence: bytes, messages: list[dict[str, str]]) -> None:
        self._prompts: list[tuple[float, str]] = []
        self._input, self._output = MicrophoneInput(silence), LoudspeakerOutput()
        self._context = LLMContext(messages)
        user, assistant = LLMContextAggregatorPair(self._context, user_params=listening(arm))
        pieces = {"text_aggregation_mode": TextAggregationMode.TOKEN} if arm == "token" else {}
        parts = [
            self._input,
            Recognition(engines),
            user,
            Writing(engines, self._prompts, time.monotonic),
            Speaking(engines, **pieces),
            self._output,
            assistant,
        ]
        rates = PipelineParams(audio_in_sample_rate=IN_HZ, audio_out_sample_rate=OUT_HZ)
        self.worker = PipelineWorker(Pipeline(parts), params=rates, enable_rtvi=False, idle_timeout_secs=None)

    @property
    def microphone(self) -> Microphone:
        return self._input.microphone

    @property
    def loudspeaker(self) -> Loudspeaker:
        return self._output.loudspeaker

    def committed(self, since: float) -> list[tuple[float, str]]:
        return [(at, text) for at, text in self._prompts if at >= since]

    def first_picture(self, since: float) -> float | None:
        return None

    def check(self) -> None:
        if self.worker.has_finished():
            raise RuntimeError("the pipeline has ended")

    async def stop_reply(self) -> None:
        await self.worker.queue_frame(InterruptionFrame())
        await scenes.until(self, lambda: time.monotonic() - self.loudspeaker.quiet_since() > QUIET_S, scenes.STOPPED_S)


@asynccontextmanager
async def opened(command: dict[str, Any]) -> AsyncIterator[Pipecat]:
    """A pipeline that listens."""
    async with contextlib.AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(grpc.aio.insecure_channel(target, options=FLOW_CONTROL))
            for name, target in command["targets"].items()
        }
        wanted = command["wanted"]
        engines = Engines(**channels, max_tokens=wanted["max_reply_tokens"], seed=wanted["seed"])
        system = [{"role": "system", "content": prompt}] if (prompt := wanted["system_prompt"]) else []
        party = Pipecat(command["arm"], engines, bytes.fromhex(command["silence"]), system)
        ready = asyncio.Event()

        async def started(*_: Any) -> None:
            ready.set()

        party.worker.add_event_handler("on_pipeline_started", started)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(party.worker)
        running = asyncio.create_task(runner.run())
        try:
            async with asyncio.timeout(STARTED_S):
                await ready.wait()
            await asyncio.sleep(command["lead_s"])
            yield party
        finally:
            await party.worker.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def act(party: Pipecat, command: dict[str, Any]) -> dict[str, Any]:
    """One scene."""
    if command["do"] == "ask":
        speech = Speech.from_json(command["speech"])
        return (await scenes.ask(party, speech, command["listen_s"])).as_json()
    question, interruption = (Speech.from_json(command[name]) for name in ("question", "interruption"))
    return (await scenes.interrupt(party, question, interruption, command["after_s"])).as_json()


async def serve() -> None:
    """Until standard input ends."""
    lines = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    answer({"ready": True})
    while line := await lines.readline():
        began = os.times()
        async with opened(json.loads(line)) as party:
            answer({"open": True})
            while (command := json.loads(await lines.readline() or '{"do": "close"}'))["do"] != "close":
                answer(await act(party, command))
            behind_ms = party.microphone.most_behind_ms
        ended = os.times()
        cpu_s = ended.user + ended.system - began.user - began.system
        answer({"closed": True, "cpu_s": round(cpu_s, 3), "behind_ms": round(behind_ms, 1)})


def answer(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    die_with_parent_if_asked()
    logger.remove()
    logger.add(sys.stderr, level="INFO")
    asyncio.run(serve())
