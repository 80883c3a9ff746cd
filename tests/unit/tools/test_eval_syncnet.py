"""SyncNet's shape and its sound features. Its weights are not to be had, so no published score is checked."""

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.runtime.errors import LoadFailed
from tools.eval import syncnet

# The convolutions and linear layers of syncnet_v2.model: key and shape of the weight.
LAYERS = {
    "netcnnaud.0": (64, 1, 3, 3),
    "netcnnaud.4": (192, 64, 3, 3),
    "netcnnaud.8": (384, 192, 3, 3),
    "netcnnaud.11": (256, 384, 3, 3),
    "netcnnaud.14": (256, 256, 3, 3),
    "netcnnaud.18": (512, 256, 5, 4),
    "netfcaud.0": (512, 512),
    "netfcaud.3": (1024, 512),
    "netfclip.0": (512, 512),
    "netfclip.3": (1024, 512),
    "netcnnlip.0": (96, 3, 5, 7, 7),
    "netcnnlip.4": (256, 96, 1, 5, 5),
    "netcnnlip.8": (256, 256, 1, 3, 3),
    "netcnnlip.11": (256, 256, 1, 3, 3),
    "netcnnlip.14": (256, 256, 1, 3, 3),
    "netcnnlip.18": (512, 256, 1, 6, 6),
}


def test_without_torch_it_is_said_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(LoadFailed, match=r"pip install torch==2\.13\.0"):
        syncnet.scores(tmp_path / "clip.mp4", tmp_path / "syncnet_v2.model", [Fraction(0)])


def test_mfcc_of_a_tone_and_of_silence() -> None:
    time = np.arange(16_000) / 16_000
    quiet = syncnet.mfcc(np.zeros(16_000))
    low, high = (syncnet.mfcc(10_000 * np.sin(2 * np.pi * pitch * time)) for pitch in (200, 4_000))
    # One a 10 ms, as far as 25 ms windows reach.
    assert quiet.shape == low.shape == (99, 13)
    assert np.isfinite(quiet).all()
    # A steady tone gives steady features; energy at the bottom of the mel scale makes the first cepstrum positive.
    assert np.allclose(low[10], low[20], atol=1e-2)
    assert low[10, 1] > 0 > high[10, 1]
    assert high[10, 0] > low[10, 0] > quiet[10, 0]


def test_mel_filters_overlap_to_one() -> None:
    filters = syncnet.mel_filters(26, 512)
    assert filters.shape == (26, 257)
    assert filters.max() == 1
    inner = filters[:, filters[0].argmax() : filters[-1].argmax() + 1]
    assert inner.sum(axis=0).max() <= 1 + 1e-9
    assert (inner.sum(axis=0) > 0).all()


@pytest.mark.torch
def test_state_dict_has_the_published_layout() -> None:
    pytest.importorskip("torch")
    state: dict[str, Any] = syncnet.network().state_dict()
    weights = {
        name.removesuffix(".weight"): tuple(value.shape) for name, value in state.items() if name.endswith(".weight")
    }
    assert {name: shape for name, shape in weights.items() if len(shape) > 1} == LAYERS
    # Batch normalisation: weight, bias, running mean and variance, and a counter; the others: weight and bias.
    norms = len(weights) - len(LAYERS)
    assert len(state) == 2 * len(LAYERS) + 5 * norms


@pytest.mark.torch
def test_weights_are_loaded_and_judge(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    torch.set_num_threads(1)
    path = tmp_path / "syncnet_v2.model"
    torch.save(syncnet.network().state_dict(), path)
    net = syncnet.loaded(path)
    rng = np.random.default_rng(2)
    crops = [rng.integers(0, 255, (224, 224, 3), dtype=np.uint8) for _ in range(8)]
    seen, heard = syncnet.embedded(net, crops, rng.standard_normal((32, 13)), 3)
    assert seen.shape == heard.shape == (3, 1024)
    found = syncnet.judged(seen, heard)
    assert found.distance > 0
    assert found.confidence >= 0
    path.write_bytes(b"no weights")
    with pytest.raises(LoadFailed, match="syncnet_v2"):
        syncnet.loaded(path)


@pytest.mark.torch
def test_equal_embeddings_agree_best_unshifted() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    same = torch.randn(40, 1024)
    together, apart = syncnet.judged(same, same), syncnet.judged(same, torch.randn(40, 1024))
    assert together.distance < 1e-3 < apart.distance
    assert together.confidence > apart.confidence
