"""`talkmesh ask`: one question, answered by a talking face."""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from talkmesh import events
from talkmesh.client import AudioInput, Client, SessionConfig
from talkmesh.commands.experiment import takes_user, user_of
from talkmesh.commands.options import FAILED, WELL, WRONG_USE, Commands, command, takes_json
from talkmesh.progress import Progress
from talkmesh.terminal import Terminal
from talkmesh.trace import Trace
from talkmesh.wav import read_wav


def add(commands: Commands) -> None:
    made = command(commands, "ask", "ask a question and get a talking face", ask)
    made.add_argument("wav", nargs="?", type=Path, help="the question as a WAV file")
    made.add_argument("--text", help="the question as text")
    made.add_argument("-o", "--output", type=Path, help="write the answer to this MP4 file, as it comes")
    made.add_argument("--trace", type=Path, help="write phonemes and face frames as JSON, for tools.eval")
    takes_json(made, "print the result as JSON on the last line")
    made.add_argument("--portrait", default="", help="the face")
    made.add_argument("--voice", default="", help="the voice")
    made.add_argument("--language", default="", help="the language spoken, for example en")
    made.add_argument("--size", type=int, default=0, help="picture width and height in pixels")
    made.add_argument("--seed", type=int, help="the same seed and question give the same answer and face")
    takes_user(made)
    made.add_argument("--real-time", action="store_true", help="send the WAV as if it were spoken now")


async def ask(options: argparse.Namespace) -> int:
    """Ask one question."""
    if (options.wav is None) == (options.text is None):
        sys.stderr.write("talkmesh ask: give either a WAV file or --text\n")
        return WRONG_USE
    wav = read_wav(options.wav) if options.wav else None
    config = SessionConfig(
        input=AudioInput(wav.sample_rate_hz, wav.channels, wav.is_float) if wav else None,
        language=options.language,
        voice=options.voice,
        portrait=options.portrait,
        size=options.size,
        seed=options.seed,
        user=user_of(options),
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
        Terminal().say(json.dumps(result(done, options.output)))
    return WELL if done.outcome is events.Outcome.COMPLETED else FAILED


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
