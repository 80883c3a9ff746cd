"""What is inside the two engines: how they are made, refuse to be made, and keep time."""

import asyncio
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.runtime import sources
from services.runtime.errors import InvalidInput, LoadFailed
from services.runtime.settings import CATALOG_FOLDER, read_catalog
from services.tts.engine import TtsEngine
from services.tts.engines.hibari import HibariEngine, whole
from services.tts.engines.vits import VitsEngine, length_scale, placed
from services.tts.servicer import SERVICE

CATALOG = read_catalog(CATALOG_FOLDER / "tts.json")
HEART = sources.resolve(CATALOG["heart"].source)
JOE = sources.resolve(CATALOG["joe"].source)


@pytest.mark.parametrize("model", CATALOG)
def test_the_catalog_names_the_files_that_are_installed(model: str) -> None:
    spec = CATALOG[model]
    source = sources.resolve(spec.source)
    assert source is not None
    sources.verify(source, spec.sha256)
    assert SERVICE.engine(spec, source).voices == (model,)


@pytest.mark.parametrize("engine", [HibariEngine, VitsEngine])
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"voice": "v", "speed": 2}, "options.speed"),
        ({"voice": "v", "threads": 0}, "options.threads"),
        ({"voice": ""}, "options.voice"),
        ({"voice": "v", "gain_db": "loud"}, "options.gain_db"),
    ],
)
def test_a_wrong_option_is_named(engine: Any, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        engine(HEART, options)
    assert caught.value.field == field


@pytest.mark.parametrize("engine", [HibariEngine, VitsEngine])
def test_a_source_is_needed(engine: Any) -> None:
    with pytest.raises(InvalidInput, match="source: is missing"):
        engine(None, {"voice": "v"})


def load(engine: TtsEngine) -> None:
    asyncio.run(engine.load())


def test_a_file_that_is_no_model_fails_to_load(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(LoadFailed, match=r"broken\.onnx"):
        load(HibariEngine(tmp_path / "broken.onnx", {"voice": "v"}))
    with pytest.raises(LoadFailed, match=r"broken\.onnx\.json"):
        load(VitsEngine(tmp_path, {"voice": "v"}))


def test_a_model_of_the_other_engine_fails_to_load(tmp_path: Path) -> None:
    assert HEART is not None
    assert JOE is not None
    graph = next(JOE.glob("*.onnx"))
    with pytest.raises(LoadFailed, match="not a hibari voice"):
        load(HibariEngine(graph, {"voice": "v"}))
    shutil.copy(HEART, tmp_path / "voice.onnx")
    shutil.copy(f"{graph}.json", tmp_path / "voice.onnx.json")
    with pytest.raises(LoadFailed, match="Ceil"):
        load(VitsEngine(tmp_path, {"voice": "v"}))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"num_speakers": 3}, "3 speakers"),
        ({"phoneme_id_map": {"a": [1]}}, "phoneme_id_map lacks"),
        ({"audio": {}}, "sample_rate"),
    ],
)
def test_a_config_of_no_use_fails_to_load(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    assert JOE is not None
    config = json.loads(next(JOE.glob("*.json")).read_text("utf-8"))
    (tmp_path / "voice.onnx").touch()
    (tmp_path / "voice.onnx.json").write_text(json.dumps(config | change), "utf-8")
    with pytest.raises(LoadFailed, match=problem):
        load(VitsEngine(tmp_path, {"voice": "v"}))


def test_a_folder_must_hold_one_model(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"holds 0 \.onnx files"):
        VitsEngine(tmp_path, {"voice": "v"})


def test_audio_in_pieces_is_the_audio_of_one_run() -> None:
    engine = VitsEngine(JOE, {"voice": "joe"})
    load(engine)
    latent, _ = engine._encode([1, *range(3, 120), 2], [0.5, 1.0, 0.5])
    pieces = list(engine._decoded(latent))
    assert len(pieces) > 3
    assert len(pieces[0]) < len(pieces[1])
    assert np.abs(np.concatenate(pieces) - engine._decode(latent)).max() < 1e-4
    asyncio.run(engine.unload())


def test_whole_frames_keep_the_pace() -> None:
    lengths = np.asarray([14.7, *[2.0, 1.0, 3.0, 2.0] * 20], np.float32)
    assert whole(lengths).tolist() == [15, *[2, 1, 3, 2] * 20]
    for pace in (0.5, 0.84, 1.05, 1.2, 1.6):
        frames = whole(lengths / pace)
        assert frames.min() >= 1
        assert frames.sum() == pytest.approx(lengths.sum() / pace, abs=2)


def test_length_scale() -> None:
    scales = [length_scale(pace) for pace in (0.4, 0.5, 1.0, 1.5, 2.0, 3.0, 9.0)]
    assert scales[2] == pytest.approx(1)
    assert all(slow > fast for slow, fast in pairwise(scales[:5]))
    assert min(scales) > 0


def test_padding_is_shared_between_the_symbols_beside_it() -> None:
    frames = np.asarray([2, 1, 3, 1, 4, 2, 5], np.float32)  # ^ _ a _ b _ $
    assert placed(frames * 10, [1, 1]) == [25, 65, 120, 180]
    assert placed(frames * 10, [2, 0]) == [25, 120, 120, 180]
