"""The routers that are compared: how each is installed, started and stopped. Flags are their defaults.

Peers from the package index go into virtual environments of their own below the cache folder; deleting that
folder undoes everything. nginx is taken from the system, or from `--nginx PATH`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataplane_lib.bodies import API_KEY

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warmroute" / "bench"

VERSIONS = {"sglang-router": "0.3.2", "smg": "1.13.0", "vllm-router": "0.1.17"}

_NGINX_CONF = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; {user}
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 64m; client_body_buffer_size 2m;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream engines {{ {servers} keepalive 4096; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engines; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""


class CannotRun(Exception):
    """A peer cannot be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """One router under test."""

    name: str
    command: Callable[[int, Sequence[str], Path], list[str]]
    """Port, workers' URLs and a folder of its own to the command line. Raises CannotRun."""
    prepare: Callable[[], object] = lambda: None
    """Installs it. Raises CannotRun."""


class Running:
    """A started router. Use as a context manager."""

    def __init__(self, target: Target, core: int, backends: Sequence[str], folder: Path) -> None:
        self.port = free_port()
        self.log = folder / f"{target.name}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                target.command(self.port, backends, folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
        self.pid = self._process.pid

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # a peer's children may outlive it
        self._process.wait()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-600:]


def targets(names: Sequence[str], nginx: str | None) -> list[Target]:
    """warmroute, then the named peers."""
    return [Target("warmroute", _warmroute), *(_peer(name, nginx) for name in names)]


PEERS = ("nginx", *VERSIONS)


def _peer(name: str, nginx: str | None) -> Target:
    if name == "nginx":
        return Target(name, lambda *where: _nginx(_nginx_path(nginx), *where), lambda: _nginx_path(nginx))
    return Target(name, lambda *where: _rust_router(name, *where), lambda: venv(name))


def _warmroute(port: int, backends: Sequence[str], folder: Path) -> list[str]:
    """As it would serve: a key to check, metrics on, prompts matched."""
    command = [sys.executable, "-m", "warmroute", "serve", "--policy", "cache_aware", "--api-key", API_KEY]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--backend", *backends]


def _nginx_path(given: str | None) -> str:
    path = given or shutil.which("nginx")
    if path is None:
        raise CannotRun("nginx is not installed (or name it with --nginx PATH)")
    return path


def _nginx(path: str, port: int, backends: Sequence[str], folder: Path) -> list[str]:
    """A plain reverse proxy over kept connections: the reference for moving bytes."""
    servers = " ".join(f"server {url.removeprefix('http://')};" for url in backends)
    user = "user root;" if os.geteuid() == 0 else ""  # else its worker could not write to the folder
    conf = folder / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(folder=folder, port=port, servers=servers, user=user))
    return [path, "-p", str(folder), "-e", f"{folder}/nginx-error.log", "-c", str(conf)]


def _rust_router(name: str, port: int, backends: Sequence[str], folder: Path) -> list[str]:
    """The three Rust routers share an ancestor and its flags."""
    binaries = venv(name)
    start = {
        "sglang-router": [str(binaries / "python"), "-m", "sglang_router.launch_router"],
        "smg": [str(binaries / "smg"), "launch"],
        "vllm-router": [str(binaries / "vllm-router")],
    }[name]
    return [
        *(*start, "--worker-urls", *backends, "--policy", "cache_aware"),
        *("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())),
    ]


def venv(name: str) -> Path:
    """The folder of binaries of a peer's environment, made when it is missing. Raises CannotRun."""
    folder = CACHE / f"{name}-{VERSIONS[name]}"
    done = folder / ".installed"
    if not done.exists():
        print(f"installing {name} {VERSIONS[name]} into {folder}", file=sys.stderr)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True)
            pip = [
                str(folder / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                f"{name}=={VERSIONS[name]}",
            ]
            subprocess.run(pip, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            words = str(getattr(error, "stderr", "") or error).strip().splitlines()
            raise CannotRun(f"cannot be installed: {words[-1] if words else error}") from None
        done.touch()
    return folder / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
