"""Writes a Llama model with random weights as a GGUF file of about 300 KB.

Its own tokens are the 256 bytes, one merged pair and the marks of a chat's turns: every text has tokens,
nothing has to be trained, and a prompt's length in tokens is nearly its length in bytes. Another model's
tokens can be given instead. Weights are seeded, so that an answer at temperature 0 is always the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

HIDDEN, FEED_FORWARD, LAYERS, HEADS = 64, 128, 2, 2
CONTEXT_TOKENS = 32768

BEGIN, OPEN, CLOSE = SPECIAL = ("<begin>", "<|turn|>", "<|/turn|>")
# The reader refuses a vocabulary without any merge.
MERGE = ("t", "h")
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    + OPEN
    + "{{ message.role }}\n{{ message.content }}"
    + CLOSE
    + "\n{% endfor -%}"
    + "{%- if add_generation_prompt -%}"
    + OPEN
    + "assistant\n{%- endif -%}"
)


def byte_alphabet() -> list[str]:
    """The printable stand-in of each byte, as byte-level BPE vocabularies write them since GPT-2."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(stand_ins)) for byte in range(256)]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A byte-level BPE: tokens in the order of their ids, merges in the order in which they are tried."""

    tokens: list[str]
    special: frozenset[str]
    merges: list[str]
    begin: str
    end: str
    chat_template: str


def own_vocabulary() -> Vocabulary:
    """Bytes."""
    tokens = [*SPECIAL, *byte_alphabet(), "".join(MERGE)]
    return Vocabulary(tokens, frozenset(SPECIAL), [" ".join(MERGE)], BEGIN, CLOSE, CHAT_TEMPLATE)


def vocabulary_of(folder: Path) -> Vocabulary:
    """That of a model folder as transformers reads it (tokenizer.json, tokenizer_config.json)."""
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids: dict[str, int] = tokenizer["model"]["vocab"]
    return Vocabulary(
        sorted(ids, key=lambda token: ids[token]),
        frozenset(added["content"] for added in tokenizer["added_tokens"]),
        [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]],
        config["bos_token"],
        config["eos_token"],
        config["chat_template"],
    )


def write(path: Path, vocabulary: Vocabulary | None = None) -> None:
    """Writes the model, with its own vocabulary unless another is given."""
    words = vocabulary or own_vocabulary()
    tokens = words.tokens
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    head = HIDDEN // HEADS

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in words.special else normal for token in tokens])
    writer.add_token_merges(words.merges)
    writer.add_bos_token_id(tokens.index(words.begin))
    writer.add_eos_token_id(tokens.index(words.end))
    writer.add_add_bos_token(False)
    writer.add_chat_template(words.chat_template)

    random = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
        return (random.standard_normal(shape) * 0.02).astype(np.float16)

    ones = np.ones(HIDDEN, np.float32)
    writer.add_tensor("token_embd.weight", weights(len(tokens), HIDDEN))
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", HIDDEN, HIDDEN),
            ("attn_v", HIDDEN, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", FEED_FORWARD, HIDDEN),
            ("ffn_up", FEED_FORWARD, HIDDEN),
            ("ffn_down", HIDDEN, FEED_FORWARD),
        ):
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(rows, columns))
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
