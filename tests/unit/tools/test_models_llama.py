"""GGUF files as the converter reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from services.runtime.errors import LoadFailed
from tools.models import vocabulary
from tools.models.llama import Gguf, convert

HIDDEN, HEADS, KV_HEADS, FFN, LAYERS = 8, 2, 1, 16, 1
LETTERS = ["Ġ", "a", "b", "ab", "<|end|>", "1", "2"]


def written(path: Path, architecture: str = "llama", pre: str = "smollm", **fields: int) -> Path:
    """A Llama of one layer with made-up weights and a vocabulary of seven tokens."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(fields.get("context", 64))
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(LETTERS)
    writer.add_token_types([1, 1, 1, 1, 3, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(4)
    writer.add_eos_token_id(4)
    writer.add_unk_token_id(4)
    writer.add_chat_template("{{ messages }}")
    for name, shape in shapes().items():
        writer.add_tensor(name, np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 100)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shapes() -> dict[str, tuple[int, ...]]:
    kv = HIDDEN // HEADS * KV_HEADS
    layer = {
        "attn_norm": (HIDDEN,),
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (kv, HIDDEN),
        "attn_v": (kv, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_norm": (HIDDEN,),
        "ffn_gate": (FFN, HIDDEN),
        "ffn_up": (FFN, HIDDEN),
        "ffn_down": (HIDDEN, FFN),
    }
    named = {f"blk.0.{name}.weight": shape for name, shape in layer.items()}
    return {"token_embd.weight": (len(LETTERS), HIDDEN), "output_norm.weight": (HIDDEN,), **named}


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="'gemma'"):
        Gguf(written(tmp_path / "other.gguf", architecture="gemma"))


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="llama-bpe"):
        vocabulary.tokenizer(Gguf(written(tmp_path / "other.gguf", pre="llama-bpe")))


def test_the_tokenizer_splits_digits_merges_pairs_and_knows_special_tokens(tmp_path: Path) -> None:
    tokenizer = vocabulary.tokenizer(Gguf(written(tmp_path / "tiny.gguf")))
    assert tokenizer.encode("ab 12<|end|>").tokens == ["ab", "Ġ", "1", "2", "<|end|>"]
    assert tokenizer.decode([3, 0, 5, 6, 4]) == "ab 12"


def test_the_chat_file_tells_what_an_engine_needs(tmp_path: Path) -> None:
    assert vocabulary.chat(Gguf(written(tmp_path / "tiny.gguf"))) == {
        "template": "{{ messages }}",
        "bos_token": "<|end|>",
        "eos_token": "<|end|>",
        "context_tokens": 64,
    }


def test_the_same_file_gives_the_same_bytes_and_a_model_that_runs(tmp_path: Path) -> None:
    import ctranslate2

    source, told = written(tmp_path / "tiny.gguf"), list[tuple[int, int]]()
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        convert(Gguf(source), folder, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)] * 2
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second
    generator: Any = ctranslate2.Generator(str(folders[0]), compute_type="int8", intra_threads=1)
    [result] = generator.generate_batch([["a"]], max_length=3, end_token=[])
    del generator
    assert set(result.sequences[0]) <= set(LETTERS)
