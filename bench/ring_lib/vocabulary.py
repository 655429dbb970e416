"""The files of a tokenizer that says of the workloads' texts what the built-in engines say of them.

To a built-in engine four bytes of UTF-8 are a token, and the number that they make is its id. So a text is
cut into pieces of four characters, and each piece that the workloads hold has its own id: the words, and what
the engine's own chat template writes around messages. Other pieces have none; texts of these have as many
tokens as the engine counts, and other ids. What ends a message is a token that is split out first, as in real
models: a router may go on from there with a conversation's next turn.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from warmroute_simulator.serve.tokens import TOKEN_BYTES, WORDS

_MARKERS: Final = {
    role: text + "\0" * (-len(text) % TOKEN_BYTES)
    for role in ("system", "user", "assistant")
    for text in [f"<|{role}|>"]
}
"""What the engine writes before a message, filled up to whole tokens."""
_END: Final = "<|/>"
"""Behind each."""
_UNKNOWN: Final = "<?>"

# In a string of a template zero bytes are written as every reader of templates knows them.
_TEMPLATE: Final = (
    f"{{%- set markers = {json.dumps(_MARKERS)} -%}}"
    "{%- for message in messages -%}"
    f"{{{{- markers[message['role']] ~ message['content'] ~ {json.dumps(_END)} -}}}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- markers['assistant'] -}}{%- endif -%}"
)


def write_model(folder: Path) -> Path:
    """Writes a model's folder without weights. The folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [
        marker[at : at + TOKEN_BYTES] for marker in _MARKERS.values() for at in range(0, len(marker), 4)
    ]
    texts = [*pieces, _END, *(word.decode() for word in WORDS)]
    end = {
        "id": _id(_END), "content": _END, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": True,
    }  # fmt: skip
    files = {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [end],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "[\\s\\S]{4}"},
                "behavior": "Isolated",
                "invert": False,
            },
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {_UNKNOWN: 0} | {text: _id(text) for text in texts},
                "unk_token": _UNKNOWN,
            },
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": _TEMPLATE,
            "eos_token": _END,
            "unk_token": _UNKNOWN,
            "model_max_length": 131072,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def _id(text: str) -> int:
    """The engine's token for a piece."""
    return int.from_bytes(text.encode(), "little")
