"""Every model of the catalogs is what its entry says, and takes what its neighbours there give."""

import importlib.util
from pathlib import Path

import pytest

from services.runtime.errors import LoadFailed, WeightsMismatch
from services.runtime.interface import Interface, from_proto
from services.runtime.neighbours import disagreements
from services.runtime.settings import CATALOG_FOLDER
from tools.models.inventory import Model, models
from tools.models.measuring import Measured, measured

MODELS = {model.full_name: model for model in models(CATALOG_FOLDER)}
LIGHT = [name for name, model in MODELS.items() if model.spec.engine != "transformers"]
HEAVY = [name for name in MODELS if name not in LIGHT]
Known = dict[str, Measured]


@pytest.fixture(scope="module")
def known() -> Known:
    """What was measured so far: loading takes most of the time."""
    return {}


async def as_it_is(name: str, known: Known) -> Measured:
    if name not in known:
        known[name] = await measured(MODELS[name])
    return known[name]


def test_every_service_has_a_catalog_with_golden_measures() -> None:
    assert {model.service for model in MODELS.values()} == {"asr", "llm", "tts", "animation", "render"}
    assert [name for name, model in MODELS.items() if not model.spec.golden] == []


@pytest.mark.parametrize("name", LIGHT)
async def test_a_model_is_what_its_entry_says(name: str, known: Known) -> None:
    found = await as_it_is(name, known)
    assert found.differences(MODELS[name].spec) == []


@pytest.mark.torch
@pytest.mark.parametrize("name", HEAVY)
async def test_a_model_that_needs_torch_is_what_its_entry_says(name: str) -> None:
    if not importlib.util.find_spec("torch"):
        pytest.skip("needs the extra of the transformers engine")
    assert (await measured(MODELS[name])).differences(MODELS[name].spec) == []


@pytest.mark.parametrize("name", LIGHT)
async def test_any_model_of_the_catalogs_fits_any_other(name: str, known: Known) -> None:
    neighbours: dict[str, list[Interface]] = {}
    for other in LIGHT:
        found = await as_it_is(other, known)
        neighbours.setdefault(MODELS[other].service, []).append(found.interface)
    own = await as_it_is(name, known)
    assert disagreements(MODELS[name].service, own.interface, neighbours) == []


@pytest.mark.parametrize("name", ["asr/tiny.en", "tts/heart", "animation/visemes", "render/warp-256"])
async def test_an_interface_survives_the_wire(name: str, known: Known) -> None:
    interface = (await as_it_is(name, known)).interface
    assert from_proto(interface.proto()) == interface


async def test_another_models_golden_measures_are_told(known: Known) -> None:
    found = await as_it_is("render/warp-256", known)
    assert found.differences(MODELS["render/warp"].spec) == ["golden.size: measured 256, expected 512 to 512"]
    voice = await as_it_is("tts/joe", known)
    told = voice.differences(MODELS["tts/heart"].spec)
    assert [line.partition(":")[0] for line in told][:2] == ["sample_rates_hz", "voices"]


async def test_a_model_is_measured_only_when_its_files_are_those_of_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKMESH_MODEL_ROOTS", str(tmp_path))
    heart = MODELS["tts/heart"]
    (tmp_path / "voice.onnx").write_bytes(b"another")
    other = heart.spec.model_copy(update={"source": str(tmp_path / "voice.onnx")})
    with pytest.raises(WeightsMismatch, match=heart.spec.sha256):
        await measured(Model("tts", "other", other))
    (tmp_path / "voice.onnx").write_bytes(b"\x80\x04N.")
    with pytest.raises(LoadFailed, match=r"voice\.onnx: it holds a pickle"):
        await measured(Model("tts", "other", other))
