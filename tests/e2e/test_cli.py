"""The command line as a user runs it."""

import asyncio
import json
import sys
from pathlib import Path

import pytest


async def talkmesh(mesh: str, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "talkmesh", "--address", mesh, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_ask_writes_a_playable_answer_and_its_trace(mesh: str, question: Path, tmp_path: Path) -> None:
    answer, trace = tmp_path / "answer.mp4", tmp_path / "answer.json"
    code, out, err = await talkmesh(
        mesh, "ask", str(question), "-o", str(answer), "--trace", str(trace), "--size", "256", "--json"
    )
    assert code == 0, err
    result = json.loads(out.splitlines()[-1])
    assert "capital of france" in result["question"].lower()
    assert "paris" in result["answer"].lower()
    assert answer.read_bytes()[4:8] == b"ftyp"
    content = json.loads(trace.read_text())
    assert (content["portrait"], content["size"]) == ("mei", 256)
    assert len(content["frames"]) >= result["video_frames"] > 25
    assert len(content["blendshape_names"]) == len(content["frames"][0]["weights"]) == 52


async def test_ask_shows_what_happens(mesh: str) -> None:
    code, _, err = await talkmesh(mesh, "ask", "--text", "What is the capital of France?")
    assert code == 0
    assert "Paris" in err
    assert "first audio" in err


async def test_status_lists_every_service(mesh: str) -> None:
    code, out, _ = await talkmesh(mesh, "status")
    assert code == 0
    for name in ("asr", "llm", "tts", "animation", "render", "tiny.en", "heart", "SERVING"):
        assert name in out
    code, out, _ = await talkmesh(mesh, "status", "--json")
    services = json.loads(out)["services"]
    assert all(service["models"][0]["phase"] == "ACTIVE" and service["latency_ms"] > 0 for service in services)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"this is not a WAV", "not a WAV"),
        (b"RIFF\xff\0\0\0WAVEfmt \x10\0\0\0", "truncated"),
    ],
)
async def test_bad_files_are_named(mesh: str, tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    code, _, err = await talkmesh(mesh, "ask", str(path), "-o", str(tmp_path / "a.mp4"))
    assert code == 1
    assert problem in err
    assert "broken.wav" in err
    assert not (tmp_path / "a.mp4").exists()


async def test_no_gateway_is_said_with_its_address() -> None:
    code, _, err = await talkmesh("127.0.0.1:9", "status")
    assert code == 4
    assert "127.0.0.1:9" in err


async def test_question_is_needed(mesh: str) -> None:
    code, _, err = await talkmesh(mesh, "ask")
    assert code == 2
    assert "either a WAV file or --text" in err
