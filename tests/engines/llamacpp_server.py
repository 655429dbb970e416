"""One llama.cpp server on the loopback interface, on a free port unless one is given.

    python llamacpp_server.py MODEL.gguf NAME [PORT] [--embeddings]

The first line of stdout is its base URL. It serves until it is killed or its stdin ends, so that it never
outlives the tests.
"""

from __future__ import annotations

import os
import sys

import xllamacpp

# Each slot keeps one conversation's KV cache.
SLOTS = 4
CONTEXT_TOKENS = 32768


def main(model: str, name: str, port: int, *, embeddings: bool) -> None:
    """Serves until stdin ends. With `embeddings`, these alone."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.embedding = embeddings
    if embeddings:
        # The model names no pooling of its own.
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    params.endpoint_slots = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()
    # The server's threads have nothing to save.
    os._exit(0)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--embeddings"]
    main(words[0], words[1], int(words[2]) if len(words) > 2 else 0, embeddings="--embeddings" in sys.argv)
