"""A Llama in GGUF as a CTranslate2 int8 model, with numpy alone: neither torch nor transformers is needed.

Formats: GGUF (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) and CTranslate2's own model specifications.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import TransformerDecoderModelSpec
from ctranslate2.specs.common_spec import Activation
from gguf import GGUFReader, dequantize

from services.runtime.errors import LoadFailed

Array = np.ndarray[Any, np.dtype[Any]]
Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""

ARCHITECTURE = "llama"


class Gguf:
    """The fields and tensors of a GGUF file."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(path)
        self.fields: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        if (architecture := self.fields.get("general.architecture")) != ARCHITECTURE:
            raise LoadFailed(f"{path.name}: its architecture is {architecture!r}, expected {ARCHITECTURE!r}")

    def __getitem__(self, key: str) -> Any:
        """A field of the architecture, such as "block_count"."""
        return self.fields[f"{ARCHITECTURE}.{key}"]

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._tensors

    def tensor(self, name: str) -> Array:
        """A tensor's weights as float32, rows first; a copy, as those stored as float32 are a view of the file."""
        found = self._tensors[name]
        return np.array(dequantize(found.data, found.tensor_type), dtype=np.float32)

    def token(self, role: str) -> str:
        """The text of a special token: "bos", "eos" or "unknown"."""
        return str(self.fields["tokenizer.ggml.tokens"][self.fields[f"tokenizer.ggml.{role}_token_id"]])


def specification(gguf: Gguf) -> Any:
    """An empty model of the right shape. GGUF orders the rows of q and k for interleaved rotary embeddings."""
    heads, kv_heads = gguf["attention.head_count"], gguf["attention.head_count_kv"]
    return TransformerDecoderModelSpec.from_config(
        gguf["block_count"],
        heads,
        activation=Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=True,
        rotary_base=gguf["rope.freq_base"],
        num_heads_kv=None if kv_heads == heads else kv_heads,
    )


def fill_layer(layer: Any, gguf: Gguf, prefix: str) -> None:
    attention, ffn = layer.self_attention, layer.ffn
    attention.layer_norm.gamma = gguf.tensor(f"{prefix}.attn_norm.weight")
    attention.linear[0].weight = np.concatenate([gguf.tensor(f"{prefix}.attn_{part}.weight") for part in "qkv"])
    attention.linear[1].weight = gguf.tensor(f"{prefix}.attn_output.weight")
    ffn.layer_norm.gamma = gguf.tensor(f"{prefix}.ffn_norm.weight")
    ffn.linear_0.weight = gguf.tensor(f"{prefix}.ffn_gate.weight")
    ffn.linear_0_noact.weight = gguf.tensor(f"{prefix}.ffn_up.weight")
    ffn.linear_1.weight = gguf.tensor(f"{prefix}.ffn_down.weight")


def convert(gguf: Gguf, folder: Path, progress: Progress) -> None:
    """Write model.bin, config.json and vocabulary.json of the model into `folder`. The same input gives the same bytes."""
    spec = specification(gguf)
    decoder, layers = spec.decoder, gguf["block_count"]
    decoder.scale_embeddings = False
    decoder.embeddings.weight = gguf.tensor("token_embd.weight")
    decoder.layer_norm.gamma = gguf.tensor("output_norm.weight")
    tied = "output.weight" not in gguf
    decoder.projection.weight = decoder.embeddings.weight if tied else gguf.tensor("output.weight")
    for index, layer in enumerate(decoder.layer):
        fill_layer(layer, gguf, f"blk.{index}")
        progress(index + 1, layers + 1)
    spec.config.bos_token = gguf.token("bos")
    spec.config.eos_token = gguf.token("eos")
    spec.config.unk_token = gguf.token("unknown")
    spec.config.layer_norm_epsilon = gguf["attention.layer_norm_rms_epsilon"]
    spec.register_vocabulary(gguf.fields["tokenizer.ggml.tokens"])
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))
    progress(layers + 1, layers + 1)
