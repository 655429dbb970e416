"""Starts and stops a real vLLM engine on the CPU, on the loopback interface, without network or GPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

MODEL_NAME = "tiny"
# vLLM's attention on the CPU takes multiples of 32.
BLOCK_TOKENS = 32
# 16,384 tokens: room for two prompts of the greatest length, small enough that a test can fill it.
BLOCKS = 512
CONTEXT_TOKENS = 8192
# One comes up in some 15 s on an idle core; two at a time on a busy machine take a minute.
READY_WITHIN_S = 240.0
# It ends within 3 s of SIGTERM; after this it is killed.
STOPPED_WITHIN_S = 15.0


@dataclass(slots=True)
class Vllm:
    """A vLLM engine: the API server leads a process group that holds the engine's core too.

    State: its process, which is another one after `start_again`.
    """

    url: str
    model: str
    process: subprocess.Popen[bytes]
    log: Path
    start: Callable[[], subprocess.Popen[bytes]]

    def kill(self) -> None:
        """Kills the whole engine at once (SIGKILL); returns when it is gone."""
        _signal_group(self.process, signal.SIGKILL)
        self.process.wait()

    def start_again(self) -> None:
        """The engine comes back on the same port, with an empty cache; it has been killed or stopped."""
        self.process = self.start()

    def stop(self) -> None:
        """Ends the engine in its own time, or kills it."""
        _signal_group(self.process, signal.SIGTERM)
        try:
            self.process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def wait_until_healthy(self) -> None:
        """Returns at the first 200 of /health. Raises RuntimeError with the end of the log otherwise."""
        deadline = time.monotonic() + READY_WITHIN_S
        with httpx.Client(timeout=5) as client:
            while time.monotonic() < deadline and self.process.poll() is None:
                try:
                    if client.get(f"{self.url}/health").status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.2)
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise RuntimeError(f"vLLM at {self.url} did not come up; the end of {self.log}:\n{tail}")


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(core: int) -> dict[str, str]:
    return os.environ | {
        # Nothing is fetched and nothing is reported.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        # A core per engine; unset, two engines may share one.
        "VLLM_CPU_OMP_THREADS_BIND": str(core),
        "OMP_NUM_THREADS": "1",
        # GiB, the smallest that it takes; BLOCKS bounds the cache far below.
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # Without this the executor `uni` is replaced by one with another process and 0.5 GB more.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "PYTHONHASHSEED": "0",
    }


def _spawn(home: Path, log: Path, core: int) -> Vllm:
    (venv,) = home.glob("vllm-*/bin/vllm")
    port = _free_port()
    command = [
        *(str(venv), "serve", str(home / "tiny-llama"), "--served-model-name", MODEL_NAME),
        *("--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--block-size", str(BLOCK_TOKENS), "--num-gpu-blocks-override", str(BLOCKS)),
        *("--max-model-len", str(CONTEXT_TOKENS), "--max-num-seqs", "16"),
        *("--distributed-executor-backend", "uni"),
        # `cached_tokens` in answers, and a /load that counts.
        *("--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-server-load-tracking"),
    ]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as messages:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=subprocess.STDOUT,
                env=_environment(core),
                cwd=log.parent,
                start_new_session=True,
            )

    return Vllm(f"http://127.0.0.1:{port}", MODEL_NAME, start(), log, start)


@contextmanager
def vllm_engines(home: Path, logs: Path, count: int) -> Iterator[list[Vllm]]:
    """`count` healthy engines for the block's time, from what setup.sh made in `home`."""
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as running:
        engines = []
        for number in range(count):
            engine = _spawn(home, logs / f"vllm-{number}.log", cores[number % len(cores)])
            running.callback(engine.stop)
            engines.append(engine)
        for engine in engines:
            engine.wait_until_healthy()
        yield engines
