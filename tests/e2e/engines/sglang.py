"""How SGLang is started on the CPU, with its KV events on a port of the loopback interface."""

from __future__ import annotations

import json
from pathlib import Path

from e2e.engines.engine import (
    BLOCK_TOKENS,
    BLOCKS,
    CONTEXT_TOKENS,
    MODEL_NAME,
    MOST_RUNNING,
    Engine,
    free_port,
)


def sglang(home: Path, folder: Path, number: int = 0, model: str = "tiny-llama") -> Engine:
    """Engine `number`; `home` is what setup.sh made, `folder` gets its log."""
    (program,) = home.glob("sglang-*/bin/python")
    port = free_port()
    events = {
        "publisher": "zmq",
        # Without `bind` it would connect to an address like this one.
        "endpoint": f"tcp://127.0.0.1:{free_port()}",
        "bind": True,
        "replay_endpoint": f"tcp://127.0.0.1:{free_port()}",
        "topic": f"kv@127.0.0.1:{port}@{MODEL_NAME}",
    }
    command = [
        *(str(program), "-m", "sglang.launch_server"),
        *("--model-path", str(home / model), "--served-model-name", MODEL_NAME, "--load-format", "dummy"),
        *("--device", "cpu", "--host", "127.0.0.1", "--port", str(port)),
        *("--attention-backend", "torch_native", "--sampling-backend", "pytorch"),
        "--disable-overlap-schedule",
        *("--page-size", str(BLOCK_TOKENS), "--max-total-tokens", str(BLOCKS * BLOCK_TOKENS)),
        *("--context-length", str(CONTEXT_TOKENS), "--max-running-requests", str(MOST_RUNNING)),
        *("--mem-fraction-static", "0.1"),
        # `cached_tokens` in answers, and counters.
        *("--enable-cache-report", "--enable-metrics"),
        *("--kv-events-config", json.dumps(events)),
    ]
    environment = {"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "1"}
    return Engine("sglang", f"http://127.0.0.1:{port}", folder / f"sglang-{number}.log", command, environment)
