"""How the two models that no package holds as GGUF are made.

Owns: the tensors and keys of `minilm` (converted, no torch needed) and of `tiny` (random, but always the same).
May not live here: where files lie and when they are made (see `models`). Needs gguf, numpy and safetensors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np

MINILM_OUTER = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
MINILM_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
TINY_WIDTH, TINY_LAYERS, TINY_HEADS, TINY_INNER, TINY_CONTEXT = 64, 2, 4, 128, 32768


def minilm(folder: Path, out: Path) -> None:
    """Convert the safetensors of all-MiniLM-L6-v2 in `folder` (config.json, vocab.txt, model.safetensors) to GGUF."""
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(out, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _minilm_vocabulary(writer, (folder / "vocab.txt").read_text(encoding="utf-8").splitlines(), config)
    names = _minilm_names(config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name in names:
            matrix = tensor.ndim == 2 and (name.startswith("encoder") or "word_embeddings" in name)
            writer.add_tensor(names[name], tensor.astype(np.float16 if matrix else np.float32))
    _finish(writer)


def _minilm_names(layers: int) -> dict[str, str]:
    """The tensors' names there and here. What is missing (pooler, position ids) mean pooling does not need."""
    names = dict(MINILM_OUTER)
    for layer in range(layers):
        for theirs, ours in MINILM_LAYER.items():
            for part in ("weight", "bias"):
                names[f"encoder.layer.{layer}.{theirs}.{part}"] = f"blk.{layer}.{ours}.{part}"
    return names


def _minilm_vocabulary(writer: Any, words: list[str], config: dict[str, Any]) -> None:
    """WordPiece as llama.cpp wants it: a word's first piece marked with U+2581 instead of the others with ##."""
    tokens, kinds = [], []
    for word in words:
        special = word.startswith("[") and word.endswith("]")
        if special:
            kinds.append(gguf.TokenType.UNKNOWN if word == "[UNK]" else gguf.TokenType.CONTROL)
        else:
            kinds.append(gguf.TokenType.NORMAL)
            word = word[2:] if word.startswith("##") else "\u2581" + word
        tokens.append(word)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")  # the pre-tokenizer of plain lower-cased BERT in llama.cpp
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    at = {word: index for index, word in enumerate(words)}
    writer.add_bos_token_id(at["[CLS]"])
    writer.add_eos_token_id(at["[SEP]"])
    writer.add_sep_token_id(at["[SEP]"])
    writer.add_unk_token_id(at["[UNK]"])
    writer.add_pad_token_id(at["[PAD]"])
    writer.add_mask_token_id(at["[MASK]"])


def tiny(tokenizer_from: Path, out: Path) -> None:
    """A llama with two small layers of random weights and the tokenizer and chat template of another GGUF file."""
    reader = gguf.GGUFReader(tokenizer_from)
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(TINY_CONTEXT)
    writer.add_embedding_length(TINY_WIDTH)
    writer.add_block_count(TINY_LAYERS)
    writer.add_feed_forward_length(TINY_INNER)
    writer.add_head_count(TINY_HEADS)
    writer.add_head_count_kv(TINY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(TINY_WIDTH // TINY_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    words = len(reader.fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(words)
    for key, field in reader.fields.items():
        if key.startswith("tokenizer."):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)
    _tiny_tensors(writer, words)
    _finish(writer)


def _tiny_tensors(writer: Any, words: int) -> None:
    """Seeded, so that greedy answers are the same on every machine and in every run."""
    rng = np.random.default_rng(0)
    width, inner = TINY_WIDTH, TINY_INNER
    shapes = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width)}
    shapes |= {"attn_output": (width, width), "ffn_gate": (inner, width), "ffn_up": (inner, width)}
    shapes |= {"ffn_down": (width, inner)}

    def noise(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 0.5).astype(np.float16)

    writer.add_tensor("token_embd.weight", noise(words, width))
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(TINY_LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(width, np.float32))
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", np.ones(width, np.float32))
        for name, shape in shapes.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", noise(*shape))


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
