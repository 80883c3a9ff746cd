"""What the Whisper engine refuses, and what its decoder makes of the model's results; no model is loaded."""

from pathlib import Path
from typing import Any

import faster_whisper
import pytest

from services.asr.engines.whisper import WhisperEngine, turn_model
from services.asr.engines.whisper_decoder import Decoding, compound, is_made_up, most_tokens, timed
from services.asr.turn_model import open_turn_model
from services.runtime.errors import InvalidInput, LoadFailed


@pytest.mark.parametrize(
    ("options", "named"), [({"beams": 3}, "options.beams"), ({"workers": 0}, "options.workers"), ({}, "source")]
)
def test_a_wrong_option_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput) as error:
        WhisperEngine(None, options)
    assert error.value.field == named


def test_a_folder_and_a_hub_id_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="hub_id"):
        WhisperEngine(tmp_path, {"hub_id": "Systran/faster-whisper-base"})


async def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LoadFailed, match=r"model\.bin, tokenizer\.json missing"):
        await WhisperEngine(tmp_path, {}).load()


async def test_broken_weights_are_a_load_failure(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(LoadFailed, match=tmp_path.name):
        await WhisperEngine(tmp_path, {}).load()


async def test_a_hub_that_cannot_be_reached_is_a_load_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LoadFailed, match="nobody/no-such-model"):
        await WhisperEngine(None, {"hub_id": "nobody/no-such-model"}).load()


@pytest.mark.parametrize(
    ("text", "voice_s", "log_prob", "made_up"),
    [
        ("Thank you.", 0.3, -1.2, True),
        ("Thank you.", 0.3, -0.4, False),
        ("Thank you.", 0.8, -1.2, False),
        ("Stop!", 0.3, -1.2, False),
        ("That was a good one.", 0.3, -0.2, True),
        ("That was a good one.", 1.1, -0.2, False),
    ],
)
def test_what_is_made_up_for_a_short_noise(text: str, voice_s: float, log_prob: float, made_up: bool) -> None:
    decoding = Decoding(None, [], text, log_prob, no_speech_prob=0.1, ran_on=False)
    assert is_made_up(decoding, voice_s) is made_up


def test_a_text_that_repeats_itself_is_known_by_its_compression() -> None:
    ratios = [
        Decoding(None, [], text, 0, 0, ran_on=False).compression_ratio for text in ("Go for it. ", "Go for it. " * 20)
    ]
    assert ratios[0] < 2.4 < ratios[1]


def test_words_of_an_alignment() -> None:
    cold = timed({"word": " cold", "start": 0.5, "end": 0.82, "probability": 0.9}, 100_000)
    hearted = timed({"word": "-hearted.", "start": 0.82, "end": 9.0, "probability": 0.7}, 20_000)
    both = compound(cold, hearted)
    assert (both.text, both.start_sample, both.end_sample, both.confidence) == ("cold-hearted.", 8_000, 20_000, 0.7)


def test_more_tokens_than_anybody_says() -> None:
    assert most_tokens(0) == 16
    assert 360 < most_tokens(30 * 16_000) < 448 - 8


def test_a_turn_model_that_is_not_installed_is_done_without() -> None:
    assert turn_model("package:no_such_package_anywhere/turn.onnx") is None
    assert turn_model("package:faster_whisper/assets/no.onnx") is None
    assert turn_model("") is None
    with pytest.raises(InvalidInput):
        turn_model("turn.onnx")


def test_what_is_no_turn_model_is_refused() -> None:
    silero = next((Path(faster_whisper.__file__).parent / "assets").glob("silero_vad*.onnx"))
    with pytest.raises(LoadFailed, match="no Smart Turn model"):
        open_turn_model(silero)
