"""Files whose loading could run code are refused by what is in them, and files that are only weights are not."""

import collections
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from services.runtime import formats, sources
from services.runtime.errors import LoadFailed
from services.runtime.formats import refuse_pickles
from services.runtime.settings import CATALOG_FOLDER, read_catalog

STATE = collections.OrderedDict(weight=[1.0, 2.0], bias=[0.5])
SOURCES = sorted({spec.source for path in CATALOG_FOLDER.glob("*.json") for spec in read_catalog(path).values()} - {""})


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def array(values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> bytes:
    made = io.BytesIO()
    np.save(made, values, allow_pickle=True)
    return made.getvalue()


def safetensors(header_bytes: int) -> bytes:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    return struct.pack("<Q", header_bytes) + header.ljust(header_bytes).encode() + struct.pack("<f", 1.0)


PICKLES = {
    **{f"protocol {number}": pickle.dumps(STATE, protocol=number) for number in range(pickle.HIGHEST_PROTOCOL + 1)},
    "one value": pickle.dumps(None),
    "longer than what is looked at": pickle.dumps([STATE, "x" * 2 * formats.HEAD], protocol=0),
    "one long text first": pickle.dumps("x" * 2 * formats.HEAD),
    "as torch saves": zipped({"archive/data.pkl": pickle.dumps(STATE, protocol=2), "archive/data/0": bytes(8)}),
    "array of objects": array(np.array([{}, None], dtype=object)),
    "arrays, one of objects": zipped({"a.npy": array(np.zeros(3)), "b.npy": array(np.array([{}], dtype=object))}),
}
WEIGHTS = {
    # Its first two bytes are those of a pickle of protocol 2.
    "safetensors": safetensors(0x0280),
    "CTranslate2": struct.pack("<IH", 6, 12) + b"WhisperSpec\0" + bytes(64),
    "ONNX": b"\x08\x08\x12\x07pytorch" + bytes(32),
    "GGUF": b"GGUF" + struct.pack("<I", 3) + bytes(32),
    "numbers": array(np.arange(5.0)),
    "arrays of numbers": zipped({"a.npy": array(np.zeros(3)), "b.npy": array(np.array(["jawOpen"]))}),
    "JSON": b'{"model_type": "llama"}',
    "a list of words": b"can\nI\nhave\nit\n.\n",
    "a licence": b"Copyright (c) 2020\n\nPermission is hereby granted.\n",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_is_refused_whatever_its_name(kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(WEIGHTS["JSON"])
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "model.bin").write_bytes(PICKLES[kind])
    with pytest.raises(LoadFailed, match=r"^inner/model\.bin: .* expected safetensors, ONNX, GGUF or CTranslate2$"):
        refuse_pickles(tmp_path)


@pytest.mark.parametrize("name", ["model.pt", "Model.PTH", "epoch.ckpt", "x.pkl", "pytorch_model-00001-of-2.bin"])
def test_what_loaders_unpickle_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WEIGHTS["safetensors"])
    with pytest.raises(LoadFailed, match=name):
        refuse_pickles(tmp_path)
    with pytest.raises(LoadFailed, match=name):
        refuse_pickles(tmp_path / name)


def test_weights_are_not_refused(tmp_path: Path) -> None:
    for index, content in enumerate(WEIGHTS.values()):
        (tmp_path / f"{index}.bin").write_bytes(content)
    refuse_pickles(tmp_path)
    (tmp_path / "last.bin").write_bytes(PICKLES["protocol 4"])
    with pytest.raises(LoadFailed, match=r"last\.bin"):
        refuse_pickles(tmp_path)


@pytest.mark.parametrize("damage", [b"PK\x03\x04 and then nothing of the kind", zipped({"a": bytes(99)})[:-9]])
def test_an_archive_that_cannot_be_looked_into_is_refused(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(damage)
    with pytest.raises(LoadFailed, match=r"model\.bin: .*cannot be read"):
        refuse_pickles(path)


@pytest.mark.parametrize("source", SOURCES)
def test_the_catalogs_models_are_weights_alone(source: str) -> None:
    path = sources.resolve(source)
    assert path is not None
    refuse_pickles(path)


def test_looking_at_a_pickle_does_not_run_it(tmp_path: Path) -> None:
    folder = tmp_path / "made by loading"
    (tmp_path / "model.bin").write_bytes(b"cos\nmkdir\n(V" + str(folder).encode() + b"\ntR.")
    with pytest.raises(LoadFailed):
        refuse_pickles(tmp_path)
    assert not folder.exists()
    pickle.loads((tmp_path / "model.bin").read_bytes())
    assert folder.exists()
