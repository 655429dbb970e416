"""Writes a Llama model directory without weights, for `vllm serve --load-format dummy`.

    python tiny_llama.py FOLDER tiny|small

The tokenizer is a byte-level BPE trained on Python's own standard library: text that every machine has, and
that compresses to about as many bytes per token as a real tokenizer does. Engines seed their dummy weights,
so that two of them give the same answers.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path

# Comes with vLLM, in whose environment this runs.
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

# Width and layers. One core prefills 2,000 tokens of the tiny one in some 40 ms, of the small one in 600 ms.
SIZES = {"tiny": (128, 2), "small": (512, 8)}
VOCABULARY = 4096
# 2 MB are enough for that vocabulary and take well under a second.
CORPUS_BYTES = 2_000_000

PAD, BEGIN, END, OPEN, CLOSE = SPECIAL = ("<pad>", "<begin>", "<end>", "<|turn|>", "<|/turn|>")
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


def corpus() -> list[str]:
    """Sources of the standard library, in the order of their names, up to the size above."""
    texts, total = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        total += len(texts[-1])
        if total > CORPUS_BYTES:
            break
    return texts


def train() -> Tokenizer:
    """A byte-level BPE: any text has tokens, and decoding gives the text back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def main(folder: Path, size: str) -> None:
    """Writes the four files that engines read; config.json last, as the mark of a complete folder."""
    hidden, layers = SIZES[size]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train()
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {
        "bos_token_id": tokenizer.token_to_id(BEGIN),
        "eos_token_id": tokenizer.token_to_id(CLOSE),
        "pad_token_id": tokenizer.token_to_id(PAD),
    }
    files = {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": CLOSE,
            "pad_token": PAD,
            "model_max_length": 32768,
            "chat_template": CHAT_TEMPLATE,
        },
        "generation_config.json": ids,
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden // 64,
            "num_key_value_heads": hidden // 64,
            "head_dim": 64,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            **ids,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
