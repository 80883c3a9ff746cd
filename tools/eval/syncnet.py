"""LSE-C and LSE-D: how sure SyncNet is that lips and sound belong together, and how far apart it sees them.

The network of Chung & Zisserman, "Out of time: automated lip sync in the wild" (2016), in the layout of the published
`syncnet_v2.model`, by which the two numbers are defined (Prajwal et al., 2020). Its weights are not part of this project and
are not to be had from a package registry: give the path of that file. Faces are cut out by the mesh's box, not by the S3FD
detector of the published pipeline, so compare only numbers made by this tool.
"""

import itertools
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput, LoadFailed
from tools.eval import clip
from tools.eval.landmarks import FaceTracker, Picture, Points

FACE_SIZE, WINDOW, FEATURES_A_PICTURE = 224, 5, 4
REACH = 15
BATCH = 16
MARGIN = 0.4
EMBEDDING = 1024


@dataclass(frozen=True)
class Lse:
    """LSE-C (higher is better) and LSE-D (lower is better)."""

    confidence: float
    distance: float


def scores(path: Path, checkpoint: Path, times: list[Fraction]) -> Lse:
    """Raises LoadFailed without torch or with other weights, InvalidInput for a clip that is too short or not 25 fps."""
    net = loaded(checkpoint)
    if {after - before for before, after in itertools.pairwise(times)} != {Fraction(1, 25)}:
        raise InvalidInput("clip", "SyncNet knows 25 pictures a second without gaps only")
    crops = faces(path)
    features = mfcc(clip.sound(path)[1] * 32768)
    count = min(len(crops), len(features) // FEATURES_A_PICTURE) - WINDOW
    if count < REACH:
        raise InvalidInput("clip", f"{len(crops)} pictures are too few", f"{REACH + WINDOW} or more, with sound")
    return judged(*embedded(net, crops, features, count))


def loaded(checkpoint: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise LoadFailed("--syncnet needs torch: pip install torch==2.13.0") from error
    net = network()
    try:
        net.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    except Exception as error:  # torch lets through whatever its reader stumbles on
        raise LoadFailed(f"{checkpoint.name} is no state dict of syncnet_v2: {error}") from error
    return net.eval()


def network() -> Any:
    """The untrained network; keys and shapes of its state dict are the published ones."""
    from torch import nn

    def flat(into: int, out: int, size: int | tuple[int, int] = 3, pad: int = 1) -> list[Any]:
        return [nn.Conv2d(into, out, size, padding=pad), nn.BatchNorm2d(out), nn.ReLU()]

    def deep(into: int, out: int, size: tuple[int, int, int], stride: int = 1, pad: int = 0) -> list[Any]:
        conv = nn.Conv3d(into, out, size, stride=(1, stride, stride), padding=(0, pad, pad))
        return [conv, nn.BatchNorm3d(out), nn.ReLU()]

    def pool(pad: int = 0) -> Any:
        return nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, pad, pad))

    def head() -> Any:
        return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, EMBEDDING))

    sound = [*flat(1, 64), nn.MaxPool2d(1, 1), *flat(64, 192), nn.MaxPool2d(3, stride=(1, 2)), *flat(192, 384)]
    sound += [*flat(384, 256), *flat(256, 256), nn.MaxPool2d(3, 2), *flat(256, 512, (5, 4), 0)]
    lips = [*deep(3, 96, (5, 7, 7), 2), pool(), *deep(96, 256, (1, 5, 5), 2, 1), pool(1)]
    for _ in range(3):
        lips += deep(256, 256, (1, 3, 3), 1, 1)
    lips += [pool(), *deep(256, 512, (1, 6, 6))]
    parts = {
        "netcnnaud": nn.Sequential(*sound),
        "netfcaud": head(),
        "netfclip": head(),
        "netcnnlip": nn.Sequential(*lips),
    }
    return nn.ModuleDict(parts)


def embedded(net: Any, crops: list[Picture], features: NDArray[np.float64], count: int) -> tuple[Any, Any]:
    """What the two halves of the network make of every run of five pictures, and of its sound; shapes [count, 1024]."""
    import torch

    seen, heard = [], []
    with torch.inference_mode():
        for start in range(0, count, BATCH):
            places = range(start, min(start + BATCH, count))
            lips = np.stack([np.stack(crops[place : place + WINDOW]) for place in places]).transpose(0, 4, 1, 2, 3)
            length = WINDOW * FEATURES_A_PICTURE
            first = [place * FEATURES_A_PICTURE for place in places]
            sound = np.stack([features[begin : begin + length].T[None] for begin in first])
            seen.append(net["netfclip"](net["netcnnlip"](torch.from_numpy(lips).float()).flatten(1)))
            heard.append(net["netfcaud"](net["netcnnaud"](torch.from_numpy(sound).float()).flatten(1)))
    return torch.cat(seen), torch.cat(heard)


def judged(seen: Any, heard: Any) -> Lse:
    """The distance of pictures and sound, averaged for each shift between them: its least, and how much that stands out."""
    from torch.nn import functional

    padded = functional.pad(heard, (0, 0, REACH, REACH))
    shifted = [functional.pairwise_distance(seen, padded[shift : shift + len(seen)]) for shift in range(2 * REACH + 1)]
    means = np.array([distance.mean().item() for distance in shifted])
    return Lse(confidence=float(np.median(means) - means.min()), distance=float(means.min()))


def faces(path: Path) -> list[Picture]:
    """The face of every picture, cut out with the published margins; a picture without one repeats the last."""
    tracker, crops = FaceTracker(), []
    points: Points | None = None
    for _, picture in clip.pictures(path):
        found = tracker.follow(picture)
        points = found if found is not None else points
        if points is not None:
            crops.append(cut_out(picture, points))
    return crops


def cut_out(picture: Picture, points: Points) -> Picture:
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    half = float((high - low).max()) / 2
    corner = (low + high) / 2 - (half * (1 + MARGIN), half)
    scale = 2 * half * (1 + MARGIN) / FACE_SIZE
    region = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]], np.float32)
    grey = (110, 110, 110)
    cut = cv2.warpAffine(
        picture, region, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=grey
    )
    return cut.astype(np.uint8, copy=False)


def mfcc(samples: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """13 mel cepstral coefficients every 10 ms of 16 kHz sound in the range of 16 bits, the first one the log energy.

    25 ms windows, 26 filters, FFT of 512, liftering 22: what the published pipeline feeds the network. Shape [frames, 13].
    """
    length, hop, size, filters, kept = 400, 160, 512, 26, 13
    signal = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1]).astype(np.float64)
    count = 1 + max(0, -(-(len(signal) - length) // hop))
    signal = np.pad(signal, (0, max(0, (count - 1) * hop + length - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, length)[::hop][:count]
    power = np.abs(np.fft.rfft(frames, size)) ** 2 / size
    smallest = np.finfo(np.float64).eps
    bands = np.log(np.maximum(power @ mel_filters(filters, size).T, smallest))
    wave = np.cos(np.pi * np.arange(kept)[:, None] * (2 * np.arange(filters) + 1) / (2 * filters)) * np.sqrt(
        2 / filters
    )
    wave[0] /= np.sqrt(2)
    cepstra: NDArray[np.float64] = (bands @ wave.T) * (1 + 11 * np.sin(np.pi * np.arange(kept) / 22))
    cepstra[:, 0] = np.log(np.maximum(power.sum(axis=1), smallest))
    return cepstra


def mel_filters(filters: int, size: int) -> NDArray[np.float64]:
    """Triangles between equally spaced mels from 0 to 8 kHz; shape [filters, size / 2 + 1]."""
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), filters + 2)
    edges = np.floor((size + 1) * 700 * (10 ** (mels / 2595) - 1) / clip.SOUND_RATE_HZ)
    bins = np.arange(size // 2 + 1)
    rows = []
    for low, top, high in zip(edges, edges[1:], edges[2:], strict=False):
        rising = (bins >= low) & (bins < top)
        falling = (bins >= top) & (bins < high)
        row = np.zeros(len(bins))
        row[rising] = (bins[rising] - low) / (top - low)
        row[falling] = (high - bins[falling]) / (high - top)
        rows.append(row)
    return np.array(rows)
