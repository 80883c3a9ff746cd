"""The command line: `talkmesh ask` and `talkmesh status`."""

import argparse
import asyncio
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from talkmesh import events
from talkmesh.client import DEFAULT_ADDRESS, AudioInput, Client, SessionConfig
from talkmesh.errors import TalkmeshError
from talkmesh.progress import Progress
from talkmesh.status import status_json, status_table
from talkmesh.trace import Trace
from talkmesh.wav import read_wav

FAILED, UNHEALTHY, UNREACHABLE = 1, 3, 4


def parser() -> argparse.ArgumentParser:
    address = os.environ.get("TALKMESH_ADDRESS", DEFAULT_ADDRESS)
    top = argparse.ArgumentParser(prog="talkmesh", description="Talk to a digital human.")
    top.add_argument("--address", default=address, help=f"the gateway's host:port ($TALKMESH_ADDRESS; {address})")
    commands = top.add_subparsers(dest="command", required=True)

    ask = commands.add_parser("ask", help="ask a question and get a talking face")
    ask.add_argument("wav", nargs="?", type=Path, help="the question as a WAV file")
    ask.add_argument("--text", help="the question as text")
    ask.add_argument("-o", "--output", type=Path, help="write the answer to this MP4 file, as it comes")
    ask.add_argument("--trace", type=Path, help="write phonemes and face frames as JSON, for tools.eval")
    ask.add_argument("--json", action="store_true", help="print the result as JSON on the last line")
    ask.add_argument("--portrait", default="", help="the face")
    ask.add_argument("--voice", default="", help="the voice")
    ask.add_argument("--language", default="", help="the language spoken, for example en")
    ask.add_argument("--size", type=int, default=0, help="picture width and height in pixels")
    ask.add_argument("--seed", type=int, help="the same seed and question give the same answer and face")
    ask.add_argument("--real-time", action="store_true", help="send the WAV as if it were spoken now")

    status = commands.add_parser("status", help="each service: model, health, latency")
    status.add_argument("--json", action="store_true")
    return top


async def ask(options: argparse.Namespace) -> int:
    """Ask one question. Returns the exit code."""
    wav = read_wav(options.wav) if options.wav else None
    config = SessionConfig(
        input=AudioInput(wav.sample_rate_hz, wav.channels, wav.is_float) if wav else None,
        language=options.language,
        voice=options.voice,
        portrait=options.portrait,
        size=options.size,
        seed=options.seed,
        audio=not options.output or bool(options.trace),
        video=False,
        mp4=bool(options.output),
        face_frames=bool(options.trace),
    )
    trace, progress = Trace(), Progress(sys.stderr, quiet=options.json)
    done: events.TurnDone | None = None
    with ExitStack() as files:
        output = Output(options.output, files)
        async with Client(options.address) as client, client.session(config) as session:
            trace.add(session.started)
            asked = session.ask(options.text) if wav is None else session.ask_wav(wav, options.real_time)
            async for event in asked:
                done = event if isinstance(event, events.TurnDone) else done
                take(event, output, trace, progress)
            async for event in session.finish():
                take(event, output, trace, progress)
    assert done is not None
    progress.end(done)
    if options.trace:
        options.trace.write_text(trace.json())
    if options.json:
        print(json.dumps(result(done, options.output)))
    return 0 if done.outcome is events.Outcome.COMPLETED else FAILED


class Output:
    """The file of an answer, made when the first of it comes: a question that fails leaves none behind."""

    def __init__(self, path: Path | None, files: ExitStack) -> None:
        self._path = path
        self._files = files
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        if self._path is None:
            return
        if self._file is None:
            self._file = self._files.enter_context(self._path.open("wb"))
        self._file.write(data)
        self._file.flush()


def take(event: events.Event, output: Output, trace: Trace, progress: Progress) -> None:
    """Put an event where it belongs."""
    if isinstance(event, events.Mp4):
        output.write(event.data)
    trace.add(event)
    progress.show(event)


def result(done: events.TurnDone, output: Path | None) -> dict[str, Any]:
    """A turn as JSON."""
    return {
        "outcome": done.outcome.name,
        "question": done.user_text,
        "answer": done.reply_text,
        "output": str(output) if output else None,
        "first_audio_ms": round(done.first_audio_ms, 1),
        "first_video_ms": round(done.first_video_ms, 1),
        "waterfall_ms": {stage.name: round(stage.duration_ms, 1) for stage in done.stages},
        "video_frames": done.video_frames,
        "models": {model.service: model.name for model in done.models},
    }


async def status(options: argparse.Namespace) -> int:
    """Print how the mesh does. Returns the exit code: 0 only if every service serves."""
    async with Client(options.address) as client:
        found = await client.status()
    print(json.dumps(status_json(found)) if options.json else status_table(found))
    return 0 if all(service["health"] == "SERVING" for service in status_json(found)["services"]) else UNHEALTHY


def main(arguments: list[str] | None = None) -> None:
    """The entry point. Exit codes: 0 well, 1 failed, 2 wrong use, 3 a service is not serving, 4 no gateway answers."""
    top = parser()
    options = top.parse_args(arguments)
    if options.command == "ask" and (options.wav is None) == (options.text is None):
        top.error("ask: give either a WAV file or --text")
    try:
        sys.exit(asyncio.run({"ask": ask, "status": status}[options.command](options)))
    except TalkmeshError as error:
        hint = f" (try again in {error.retry_after_s:g} s)" if error.retryable else ""
        print(f"talkmesh: {error}{hint}", file=sys.stderr)
        sys.exit(UNREACHABLE if error.code == "UNAVAILABLE" else FAILED)
    except OSError as error:
        print(f"talkmesh: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
