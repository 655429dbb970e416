"""A real inference engine as a process group of its own: started, awaited, killed, started again, stopped.

How each kind is started stands in the modules beside this one. All listen on the loopback interface only and
need neither a network nor a GPU.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

MODEL_NAME = "tiny"
CONTEXT_TOKENS = 8192
# vLLM's attention on the CPU takes multiples of 32; SGLang is told to use the same.
BLOCK_TOKENS = 32
# 16,384 tokens: room for two prompts of the greatest length, small enough that a test can fill it.
BLOCKS = 512
# What each engine runs at a time; more wait.
MOST_RUNNING = 16
# One comes up in some 15 to 30 s on an idle core; two at a time on a busy machine take a minute.
READY_WITHIN_S = 300.0
# It ends within 6 s of SIGTERM; after this it is killed.
STOPPED_WITHIN_S = 20.0

# Nothing is fetched and nothing is reported.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}


@dataclass(slots=True)
class Engine:
    """A running engine: its server leads a process group that holds its other processes too.

    State: its process, which is another one after `start_again`.
    """

    kind: str
    url: str
    log: Path
    command: Sequence[str]
    environment: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] = field(init=False, repr=False)
    model: str = MODEL_NAME

    def start(self) -> None:
        """Starts it, on the same port each time; `wait_until_healthy` says when it serves."""
        with self.log.open("ab") as messages:
            self.process = subprocess.Popen(
                self.command,
                # Some engines end when their stdin does.
                stdin=subprocess.PIPE,
                stdout=messages,
                stderr=subprocess.STDOUT,
                env=os.environ | OFFLINE | self.environment,
                cwd=self.log.parent,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kills the whole engine at once (SIGKILL); returns when it is gone."""
        self._signal(signal.SIGKILL)
        self._gone()

    def stop(self) -> None:
        """Ends the engine in its own time, or kills it."""
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        self._gone()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def wait_until_healthy(self) -> None:
        """Returns at the first 200 of /health. Raises RuntimeError with the end of the log otherwise."""
        deadline = time.monotonic() + READY_WITHIN_S
        with httpx.Client(timeout=10, trust_env=False) as client:
            while time.monotonic() < deadline and self.runs:
                try:
                    if client.get(f"{self.url}/health").status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.2)
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise RuntimeError(f"{self.kind} at {self.url} did not come up; the end of {self.log}:\n{tail}")

    def _signal(self, number: signal.Signals) -> None:
        if self.runs:
            os.killpg(self.process.pid, number)

    def _gone(self) -> None:
        """What is left of its group goes too: an engine's parts outlive a leader that was killed."""
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


Make = Callable[[int], Engine]


@contextmanager
def running(make: Make, count: int = 1) -> Iterator[list[Engine]]:
    """`count` healthy engines for the block's time; `make` gets the number of each."""
    with ExitStack() as stack:
        engines = []
        for number in range(count):
            engine = make(number)
            engine.start()
            stack.callback(engine.stop)
            engines.append(engine)
        for engine in engines:
            engine.wait_until_healthy()
        yield engines


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def core(number: int) -> int:
    """The processor for engine `number`: one each as long as there are some."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[number % len(cores)]
