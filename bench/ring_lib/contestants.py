"""Who is compared, and how each is started: with its own defaults, and nothing told to one that others are
not told.

Of the Rust routers there are three each: round robin; `cache_aware`, the reason to run them; and the mode in
which they use what only a client can know, the session that a request belongs to. All requests name one, in
the headers that each of them reads; a request that belongs to no session is one of its own. What needs a
model's name or a setting of a run only (a port, a folder, less logging) is not a choice.

Two go by what engines tell of their caches: ours, which finds that out by itself and has a tokenizer for the
workloads' texts; and vllm-router's `kv_aware`, which is told where each engine publishes, and asks an engine
for every prompt's tokens (`/v1/chat/completions/render`), as it does not tokenize before HTTP workers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataplane_lib.routers import free_port
from ring_lib.dynamo_fleet import environment as dynamo_environment
from ring_lib.dynamo_fleet import frontend, speakers
from ring_lib.event_sources import event_sources
from ring_lib.installing import Places
from ring_lib.vocabulary import write_model

OURS: Final = "warmroute"
OURS_EXACT: Final = "warmroute exact"


@dataclass(frozen=True, slots=True)
class Start:
    """What a contestant is started with."""

    places: Places
    port: int
    engines: Sequence[str]
    """URLs."""
    model: str
    folder: Path
    """Of its own, new in every run."""


Command = Callable[[Start], list[str]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One program in one mode."""

    name: str
    program: str
    mode: str
    """As its own documentation would call it, for the page."""
    command: Command
    """The words to start it with. Raises CannotRun."""
    environment: Callable[[Start], Mapping[str, str]] = lambda _: {}
    helpers: Command | None = None
    """A process that it needs between itself and the engines, on the engines' core."""
    only: tuple[str, ...] = ()
    """Fleets that it can serve; none: any."""


def contestants() -> dict[str, Contestant]:
    """Reads. By name, ours first."""
    found = [
        Contestant(OURS, "warmroute", "`--policy cache_aware`, the default", _warmroute()),
        Contestant(
            OURS_EXACT, "warmroute", "`--kv-events auto --tokenizer …`", _warmroute_exact, only=("simulated",)
        ),
        _rust("sglang-router", "round_robin"),
        _rust("sglang-router", "cache_aware"),
        _rust("sglang-router", "manual", "--assignment-mode", "min_load"),
        _rust("smg", "round_robin"),
        _rust("smg", "cache_aware"),
        _rust("smg", "sticky", "--sticky-sessions", "--assignment-mode", "delegate", policy="cache_aware"),
        _rust("vllm-router", "round_robin"),
        _rust("vllm-router", "cache_aware"),
        _rust("vllm-router", "sticky_least_loaded"),
        _rust("vllm-router", "kv_aware", more=_vllm_router_sources, only=("simulated",)),
        Contestant("nginx", "nginx", "`least_conn`", _nginx),
        Contestant(
            "litellm",
            "litellm",
            "`routing_strategy: least-busy`, one process",
            _litellm,
            lambda _: {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"},
        ),
        Contestant(
            "dynamo",
            "dynamo",
            "`--router-mode kv --no-router-kv-events`",
            lambda start: frontend(start.places.python("dynamo"), start.port),
            lambda start: dynamo_environment(start.folder),
            lambda start: speakers(start.places.python("dynamo"), start.engines, start.model, start.folder),
            only=("simulated",),
        ),
    ]
    return {contestant.name: contestant for contestant in found}


QUICK: Final = (OURS, "sglang-router cache_aware", "smg cache_aware", "vllm-router cache_aware", "nginx")


def _warmroute(*flags: str) -> Command:
    return lambda start: [
        *(sys.executable, "-m", "warmroute", "serve", "--host", "127.0.0.1", "--port", str(start.port)),
        *("--log-level", "warning", *flags, "--backend", *start.engines),
    ]


def _warmroute_exact(start: Start) -> list[str]:
    """With the tokenizer of the built-in engines' texts."""
    return _warmroute("--kv-events", "auto", "--tokenizer", str(write_model(start.folder / "model")))(start)


_LAUNCHERS: Final = {
    "sglang-router": ("sglang_router.launch_router",),
    "smg": ("smg", "launch"),
    "vllm-router": ("vllm_router.launch_router",),
}
"""Modules: two of the packages install a command of the same name."""


def _vllm_router_sources(start: Start) -> list[str]:
    """Where each engine publishes: by itself it looks in SGLang's `/get_server_info` alone. Raises
    CannotRun."""
    words = ["--kv-event-model", start.model]
    for url, source in zip(start.engines, event_sources(start.engines), strict=True):
        words += ["--kv-event-source", f"{url}={source.endpoint}"]
        words += ["--kv-event-replay-source", f"{url}={source.replay}"]
    return words


def _rust(
    program: str,
    mode: str,
    *flags: str,
    policy: str = "",
    more: Command = lambda _: [],
    only: tuple[str, ...] = (),
) -> Contestant:
    """The three Rust routers share an ancestor and its flags. `more`: words that depend on the run."""
    words = ("--policy", policy or mode, *flags)
    level = "warning" if program == "vllm-router" else "warn"

    def command(start: Start) -> list[str]:
        return [
            *(start.places.python(program), "-m", *_LAUNCHERS[program], "--worker-urls", *start.engines),
            *(*words, *more(start), "--host", "127.0.0.1", "--port", str(start.port), "--log-level", level),
            *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())),
        ]

    about = " ".join((*words, "--kv-event-source …") if mode == "kv_aware" else words)
    return Contestant(f"{program} {mode}", program, f"`{about}`", command, only=only)


_NGINX: Final = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; {user}
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 64m; client_body_buffer_size 2m;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream engines {{ least_conn; {servers} keepalive 512; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://engines; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""


def _nginx(start: Start) -> list[str]:
    servers = " ".join(f"server {url.removeprefix('http://')};" for url in start.engines)
    user = "user root;" if os.geteuid() == 0 else ""  # else its worker could not write to the folder
    conf = start.folder / "nginx.conf"
    conf.write_text(_NGINX.format(folder=start.folder, port=start.port, servers=servers, user=user))
    return [start.places.nginx(), "-p", str(start.folder), "-e", f"{start.folder}/error.log", "-c", str(conf)]


_LITELLM_MODEL: Final = """\
  - model_name: {model}
    litellm_params: {{model: "hosted_vllm/{model}", api_base: "{url}/v1", api_key: none}}
"""


def _litellm(start: Start) -> list[str]:
    """As its documentation balances over several deployments of one model."""
    models = "".join(_LITELLM_MODEL.format(model=start.model, url=url) for url in start.engines)
    conf = start.folder / "litellm.yaml"
    conf.write_text(f"model_list:\n{models}router_settings: {{routing_strategy: least-busy}}\n")
    python = start.places.python("litellm")
    command = str(Path(python).with_name("litellm"))
    return [command, "--config", str(conf), "--host", "127.0.0.1", "--port", str(start.port)]
