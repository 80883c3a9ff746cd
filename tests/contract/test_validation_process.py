"""An engine process serves a model only when the golden input comes out as the catalog says, and says why not."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from services.runtime.engine import ModelSpec
from services.runtime.engine_process import EngineJob, Progress
from services.runtime.settings import CATALOG_FOLDER, read_catalog

VISEMES = read_catalog(CATALOG_FOLDER / "animation.json")["visemes"]
HEART = read_catalog(CATALOG_FOLDER / "tts.json")["heart"]
PATIENCE_S = 60.0


async def outcome(service: str, spec: ModelSpec) -> list[Progress]:
    """What an engine process tells of a model until it is ready or has failed."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as folder, os.fdopen(reading) as told:
        job = EngineJob(
            module=f"services.{service}.servicer",
            model="tried",
            spec=spec,
            socket=Path(folder) / "s",
            progress_fd=writing,
            host_pid=os.getpid(),
        )
        command = (sys.executable, "-m", "services.runtime.engine_process", job.model_dump_json())
        process = await asyncio.create_subprocess_exec(*command, pass_fds=(writing,), stdin=asyncio.subprocess.PIPE)
        os.close(writing)
        try:
            lines = await asyncio.wait_for(asyncio.to_thread(told.readlines), PATIENCE_S)
        finally:
            process.kill()
            await process.wait()
    return [Progress.model_validate_json(line) for line in lines]


async def test_a_sound_model_gets_ready_and_tells_its_interface() -> None:
    steps = await outcome("animation", VISEMES)
    assert [step.phase for step in steps] == ["loading", "validating", "warming", "ready"]
    interface = next(step.interface for step in steps if step.interface)
    assert len(interface.blendshape_names) == 52


REFUSED: dict[str, tuple[str, ModelSpec, dict[str, Any]]] = {
    "golden.jaw_open_vowel: measured 0.4": ("animation", VISEMES, {"golden": {"jaw_open_vowel": (0.9, 1.0)}}),
    "golden.jaw: no such measure; known: frames": ("animation", VISEMES, {"golden": {"jaw": (0, 1)}}),
    "the catalog says wild": ("animation", VISEMES, {"interface": {"styles": ["wild"]}}),
    "voices: the engine reports soul": ("tts", HEART, {"options": {"voice": "soul"}}),
    "golden.rms_db: measured -3": ("tts", HEART, {"options": {"voice": "heart", "gain_db": -10}}),
    "golden input: rms_db is -46": ("tts", HEART, {"options": {"voice": "heart", "gain_db": -20}}),
}


@pytest.mark.parametrize("told", REFUSED)
async def test_a_model_that_is_not_as_its_entry_says_fails_with_the_reason(told: str) -> None:
    service, spec, changed = REFUSED[told]
    steps = await outcome(service, ModelSpec.model_validate({**spec.model_dump(), **changed}))
    assert [step.phase for step in steps] == ["loading", "validating", "failed"]
    assert told in steps[-1].error


async def test_a_pickle_is_refused_before_anything_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKMESH_MODEL_ROOTS", str(tmp_path))
    made = tmp_path / "made by loading"
    (tmp_path / "voice.onnx").write_bytes(b"cos\nmkdir\n(V" + str(made).encode() + b"\ntR.")
    spec = ModelSpec(engine="hibari", source=str(tmp_path / "voice.onnx"))
    steps = await outcome("tts", spec)
    assert [step.phase for step in steps] == ["loading", "failed"]
    assert "voice.onnx: it holds a pickle" in steps[-1].error
    assert not made.exists()
