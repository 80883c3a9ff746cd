"""The tokenizer and the chat template that a GGUF file carries, in files that an engine reads without the GGUF."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from services.runtime.errors import LoadFailed
from tools.models.llama import Gguf

CONTROL = 3
"""`tokenizer.ggml.token_type` of a token that is no text."""
KIND = ("gpt2", "smollm")


def tokenizer(gguf: Gguf) -> Any:
    """The byte-level BPE of SmolLM: every digit for itself, then GPT-2's splitting into words."""
    fields = gguf.fields
    kind = (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"])
    if kind != KIND:
        raise LoadFailed(f"tokenizer of kind {kind} is not known, expected {KIND}")
    tokens = fields["tokenizer.ggml.tokens"]
    ids = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE(vocab=ids, merges=merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return made


def chat(gguf: Gguf) -> dict[str, Any]:
    """What chat.json holds: the template, its special tokens, and how many tokens the model was trained to see."""
    return {
        "template": gguf.fields["tokenizer.chat_template"],
        "bos_token": gguf.token("bos"),
        "eos_token": gguf.token("eos"),
        "context_tokens": gguf["context_length"],
    }


def write(gguf: Gguf, folder: Path) -> None:
    """Write tokenizer.json and chat.json into `folder`."""
    (folder / "tokenizer.json").write_text(tokenizer(gguf).to_str(), encoding="utf-8")
    text = json.dumps(chat(gguf), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "chat.json").write_text(text + "\n", encoding="utf-8")
