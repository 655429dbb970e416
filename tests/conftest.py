"""What tests of every folder may ask for."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engines import tiny_gguf
from engines.llamacpp import LlamaCpp, llamacpp
from live.processes import quick_starts

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the suite in the background has it ignore Ctrl-C, and with it all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples are tried for what they show, not for how long they take: the machine may be busy.
settings.register_profile(
    "untimed", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


def pytest_sessionstart() -> None:
    """What collecting thousands of tests makes is never garbage: nobody looks for it."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def quickly_started() -> Iterator[None]:
    """Routers and engines start as forks, with their imports done."""
    with quick_starts():
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama model for llama.cpp."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    tiny_gguf.write(path)
    return path


@pytest.fixture(scope="session")
def llamacpp_engine(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    """llama.cpp's HTTP server, shared by all tests: one that stops or kills it starts its own."""
    with llamacpp(tiny_model, tmp_path_factory.mktemp("llamacpp") / "server.log") as engine:
        yield engine
