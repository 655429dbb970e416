"""How llama.cpp's server is started: from the development environment's wheel, no set-up of its own.

It has no KV events, and its cache is one prompt per slot. Its model has the tokens of the other engines' and
weights of its own: they count a prompt's tokens alike and answer differently.
"""

from __future__ import annotations

import sys
from pathlib import Path

from e2e.engines.engine import MODEL_NAME, Engine, free_port
from engines import tiny_gguf
from engines.llamacpp import SERVER


def llamacpp(home: Path, folder: Path, number: int = 0, *, embeddings: bool = False) -> Engine:
    """Engine `number`; `home` is what setup.sh made, `folder` gets its log and its model."""
    model = folder / "tiny.gguf"
    if not model.exists():
        tiny_gguf.write(model, tiny_gguf.vocabulary_of(home / "tiny-llama"))
    port = free_port()
    command = [sys.executable, str(SERVER), str(model), MODEL_NAME, str(port)]
    if embeddings:
        command.append("--embeddings")
    return Engine("llamacpp", f"http://127.0.0.1:{port}", folder / f"llamacpp-{number}.log", command, {})
