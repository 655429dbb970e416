"""Dynamo in front of engines that know nothing of Dynamo: its frontend with the KV router, and for each
engine a worker of its own kind that passes requests on (`speaker`).

Dynamo cannot be given the URL of an OpenAI-compatible engine; its workers speak its request plane and take
token ids. So its frontend renders and tokenizes here, as it does with its own engines, with a tokenizer
whose tokens are the words of the workloads. The router predicts what caches hold from its own decisions, as
the others do. What the speakers cost is in nobody's figure but in the times: about a millisecond a request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from warmroute_simulator.serve.tokens import WORDS

BLOCK_TOKENS: Final = 16
"""Of the built-in engines."""

_ROLES: Final = ("<|system|>", "<|user|>", "<|assistant|>", "<|/|>", "<|?|>")
_UNKNOWN: Final = "<|?|>"
_TEMPLATE: Final = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|/|> {% endfor %}"
    "<|assistant|>"
)


def environment(folder: Path) -> Mapping[str, str]:
    """Files and loopback instead of etcd and NATS."""
    return {
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(folder / "discovery"),
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_EVENT_PLANE": "zmq",
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        "DYN_HTTP_RPC_HOST": "127.0.0.1",
        "DYN_LOG": "warn",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def frontend(python: str, port: int) -> list[str]:
    """Reads. The contestant itself."""
    return [
        *(python, "-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", str(port)),
        *("--router-mode", "kv", "--no-router-kv-events"),
    ]


def speakers(python: str, engines: Sequence[str], model: str, folder: Path) -> list[str]:
    """Writes the model's folder. What stands between the frontend and the engines."""
    write_model(folder / "model")
    script = Path(__file__).with_name("speaker.py")
    return [python, str(script), model, str(folder / "model"), str(BLOCK_TOKENS), *engines]


def write_model(folder: Path) -> None:
    """Writes a model without weights: a token for each word of the workloads, one for each role's marker."""
    folder.mkdir(parents=True, exist_ok=True)
    words = sorted({word.decode().strip() for word in WORDS})
    vocabulary = {text: number for number, text in enumerate([*_ROLES, *words])}
    special = [
        {"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for number, text in enumerate(_ROLES)
    ]  # fmt: skip
    files = {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": _UNKNOWN},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": _TEMPLATE,
            "eos_token": "<|/|>",
            "unk_token": _UNKNOWN,
            "model_max_length": 131072,
        },
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 131072,
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "intermediate_size": 64,
            "eos_token_id": vocabulary["<|/|>"],
            "bos_token_id": vocabulary["<|system|>"],
        },
        "generation_config.json": {"eos_token_id": [vocabulary["<|/|>"]]},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
