"""The files of a Piper voice: a graph and, beside it, its config in JSON."""

import json
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from services.runtime.errors import LoadFailed


class Audio(BaseModel):
    sample_rate: int = Field(ge=8000, le=48000)


class Inference(BaseModel):
    noise_scale: float = 0.667
    length_scale: float = 1.0
    noise_w: float = 0.8


class VoiceConfig(BaseModel):
    """The JSON file beside a Piper voice; what is not used here is not looked at."""

    audio: Audio
    inference: Inference = Inference()
    phoneme_id_map: dict[str, list[int]]
    num_speakers: int = 1


def graph_file(source: Path) -> Path:
    """The `.onnx` file that a source is or holds."""
    if not source.is_dir():
        return source
    found = sorted(source.glob("*.onnx"))
    if len(found) != 1:
        raise LoadFailed(f"{source.name}: holds {len(found)} .onnx files, expected one")
    return found[0]


def voice_config(path: Path) -> VoiceConfig:
    """Raises LoadFailed unless `path` holds the config of a voice with one speaker."""
    try:
        config = VoiceConfig.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise LoadFailed(f"{path.name}: not the config of a Piper voice: {error}") from error
    if missing := {"_", "^", "$", " "} - config.phoneme_id_map.keys():
        raise LoadFailed(f"{path.name}: phoneme_id_map lacks {sorted(missing)}")
    if config.num_speakers != 1:
        raise LoadFailed(f"{path.name}: {config.num_speakers} speakers; only voices with one speaker are supported")
    return config
