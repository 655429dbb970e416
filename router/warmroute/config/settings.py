"""Every setting of the router, with the only place where its default stands.

`Settings(...)` takes values and reads nothing else; `sources.load` collects flags, environment and file.
The groups here are those of `router serve --help` and of docs/configuration.md. Defaults of the decision
core are the core's own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from warmroute.config.admission import PriorityClasses, Tenants, parse_class, parse_tenant
from warmroute.config.allowed import WorkerPatterns
from warmroute.config.backends import Backends
from warmroute.config.endpoints import OFF, KvEventsMode
from warmroute.config.kinds import (
    Count,
    CountOrNone,
    CountOrZero,
    File,
    FileMode,
    Files,
    HeaderName,
    HeaderNames,
    HttpUrlOrNone,
    Kind,
    NotNegative,
    Origins,
    Parameters,
    Policies,
    Port,
    PortOrNone,
    Positive,
    RateOrNone,
    Seconds,
    Secrets,
    Share,
    Size,
    Switch,
    Text,
    Tokenizers,
    TokenSeconds,
    UrlPath,
    WholeNumber,
    Words,
)
from warmroute.config.names import DnsNames
from warmroute.config.presets import preset_or_file
from warmroute_policies.config import BalancerConfig, ResilienceConfig
from warmroute_policies.latency import DEFAULT_PRESET

ENV_PREFIX: Final = "ROUTER_"

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

_CORE: Final = {field.name: field.default for field in dataclasses.fields(BalancerConfig)}
_RESILIENCE: Final = {field.name: field.default for field in dataclasses.fields(ResilienceConfig)}


def _setting(group: str, default: Any, text: str) -> Any:
    return Field(default=default, description=text, json_schema_extra={"group": group})


def group_of(field: FieldInfo) -> str:
    """The group that a setting is listed in."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["group"])


def kind_of(field: FieldInfo) -> Kind:
    """What a setting accepts, in words. The outermost type's words win over its parts'."""
    return next(item for item in reversed(field.metadata) if isinstance(item, Kind))


def _level(value: object) -> object:
    # sglang-router says "warn"; vllm-router knows "critical", and nothing here is more than an error.
    words = {"warn": "warning", "critical": "error"}
    return words.get(value.lower(), value.lower()) if isinstance(value, str) else value


class Settings(BaseSettings):
    """Resolved settings: immutable values. Raises pydantic's ValidationError where one is not acceptable."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        enable_decoding=False,  # lists in the environment are words, not JSON
        env_ignore_empty=True,  # compose files pass unset variables on as empty ones
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # an input may be a key
    )

    host: Text = _setting(
        "server",
        "127.0.0.1",
        "Address to listen on, or a name with all its addresses; 0.0.0.0 is every IPv4 interface, :: every "
        "interface.",
    )
    port: Port = _setting(
        "server", 30000, "Port to listen on, for requests, administration and metrics alike."
    )
    metrics_port: PortOrNone = _setting(
        "server",
        None,
        "Serve /metrics, and nothing else, on this port too; none: only on `port`.",
    )
    metrics_host: Text = _setting("server", "127.0.0.1", "Address that `metrics_port` listens on.")
    reuse_port: Switch = _setting(
        "server",
        False,
        "Listen beside another router on the same port (SO_REUSEPORT): start the new one, then stop the old "
        "one, and no connection is lost.",
    )
    handover_wait_s: Seconds = _setting(
        "server",
        60.0,
        "With `reuse_port`: how long a router waits for a worker that can take a request before it gives up, "
        "while another one serves the port.",
    )
    uds: File = _setting(
        "server",
        None,
        "Path of a Unix socket to listen on: instead of `host` and `port`, and beside them where one of them "
        "is given.",
    )
    uds_mode: FileMode = _setting(
        "server", "660", "Permissions of `uds`: who may write to it may connect. Three octal digits."
    )
    proxy_protocol: Switch = _setting(
        "server",
        False,
        "Every connection begins with a head of the PROXY protocol (1 or 2) that tells the client's address; "
        "without one it is closed. Only for a port that nobody but the proxy can reach.",
    )
    tls_cert: File = _setting(
        "server",
        None,
        "Serve TLS with this certificate and its chain (PEM). Read again when it changes: docs/network.md.",
    )
    tls_key: File = _setting("server", None, "The key of `tls_cert` (PEM); none: it stands in the same file.")
    tls_client_ca: File = _setting(
        "server",
        None,
        "Clients must show a certificate of one of these authorities (PEM); none: they need none.",
    )
    api_key: Secrets = _setting(
        "server", (), "Keys that clients may use (`Authorization: Bearer` or `x-api-key`); none: open to all."
    )
    admin_api_key: Secrets = _setting(
        "server",
        (),
        "Keys for the endpoints that change or show the router's state. None: where clients need keys, those "
        "show the state and nothing opens what changes it; where they need none, all is open.",
    )
    engine_call_timeout_s: Seconds = _setting(
        "server",
        10.0,
        "For one call of the router's own to one worker on behalf of an operator: `/flush_cache`, "
        "`/engine_metrics`, `/get_server_info` and the like.",
    )
    request_id_header: HeaderNames = _setting(
        "server",
        ("x-request-id", "x-correlation-id", "x-trace-id", "request-id"),
        "Request headers that give the request its id, the first one present wins; the answer and the worker "
        "have it as `x-request-id`.",
    )
    cors_origin: Origins = _setting(
        "server",
        (),
        "Pages of these origins (`https://chat.example.com`) may ask from a browser; `*` is every origin, "
        "without credentials. None: browsers let no other page read answers.",
    )
    max_body_bytes: Size = _setting(
        "server", 512 * MIB, "Largest request body; a larger one is answered 413."
    )
    max_buffered_bytes: Size = _setting(
        "server",
        2 * GIB,
        "Request bodies held at a time over all clients; a request that would exceed it is turned away.",
    )
    max_connections: Count = _setting(
        "server", 16384, "Client connections at a time; further ones are answered 503."
    )
    max_client_buffer_bytes: Size = _setting(
        "server",
        256 * KIB,
        "Answer bytes held for one slow client before its worker is not read any further.",
    )

    backend: Backends = _setting(
        "workers",
        (),
        "A worker's URL, with options behind commas: `model=NAME` (repeatable), `weight=X` (relative speed), "
        "`kv_capacity_tokens=N`, `preset=NAME` (latency preset), `tls_name=NAME` (of an https:// worker's "
        "certificate, where it is not the host), `max_inflight=N`, `ranks=N` (data-parallel ranks behind the "
        "URL, each a worker), `kv_events=URL` and `kv_replay=URL` (its own; docs/exact-mode.md). More can be "
        "added while the router runs.",
    )
    worker_allow: WorkerPatterns = _setting(
        "workers",
        (),
        "Which workers the admin API and discovery may add: names with `*` (`*.llm.svc`), addresses and "
        "networks (`10.0.0.0/8`). None: any, but the admin API adds no address where "
        "clouds hand out credentials (169.254.0.0/16 and others). What `backend` lists needs no leave.",
    )
    model_discovery: Switch = _setting(
        "workers", True, "Ask workers that name no model for theirs, at /v1/models."
    )
    kv_capacity_tokens: Annotated[
        int | None, Field(ge=1), Kind("a whole number of tokens, at least 1", "TOKENS")
    ] = _setting(
        "workers",
        None,
        "KV cache of a worker that does not tell and has no own figure; none: learned from its answers.",
    )
    replicas: Count = _setting(
        "workers",
        _CORE["replicas"],
        "Routers in front of the same workers, this one counted. They share nothing, so each believes in its "
        "share of the workers' caches. Send a session to the same router always.",
    )
    capacity_feedback: Switch = _setting(
        "workers",
        _CORE["capacity_feedback"],
        "Correct the believed size of a worker's KV cache by the cached tokens that it reports.",
    )
    learn_prices: Switch = _setting(
        "workers",
        _CORE["learn_prices"],
        "Correct the preset's price of a prefill by the times to first token.",
    )
    learned_prices_file: Annotated[Path | None, Kind("a path", "FILE")] = _setting(
        "workers",
        None,
        "Keep what was learned of prices here over restarts: read at the start if it is there, written every "
        "minute and at the end.",
    )
    inject_usage: Switch = _setting(
        "workers",
        False,
        "Ask for token counts in streams of chats and completions whose clients did not, and take them out "
        "again on the way back: the router learns from every stream. See docs/token-counts.md.",
    )
    owners_max: Count = _setting(
        "workers",
        100_000,
        "Stored responses, conversations, files and batches whose workers are remembered; for one that was "
        "forgotten all workers are asked. See docs/stored-objects.md.",
    )
    owner_search_at_a_time: Count = _setting(
        "workers", 32, "Questions to workers at a time, over all searches for what one of them keeps."
    )
    state_file: Annotated[Path | None, Kind("a path", "FILE")] = _setting(
        "workers",
        None,
        "Keep what is believed of the workers' caches, and sessions, here over restarts: hashes, never "
        "prompts. Written at the end and every `state_interval_s`, read at the start.",
    )
    state_interval_s: Seconds = _setting("workers", 60.0, "Between two writes of `state_file`.")
    state_max_age_s: Seconds = _setting(
        "workers", 900.0, "An older `state_file` is not read: caches have turned over since."
    )
    idle_connections_per_worker: CountOrZero = _setting(
        "workers", 256, "Idle connections kept open to one worker."
    )
    upstream_keepalive_s: Seconds = _setting(
        "workers",
        4.0,
        "An idle connection to a worker is closed after this; below the 5 s after which uvicorn, and so vLLM "
        "and SGLang, close it.",
    )

    upstream_ca: Files = _setting(
        "workers",
        (),
        "Authorities (PEM) that the certificates of workers with https:// are checked against; none: the "
        "system's. Read again when they change.",
    )
    upstream_client_cert: File = _setting(
        "workers", None, "Certificate (PEM) that is shown to workers which ask for one."
    )
    upstream_client_key: File = _setting(
        "workers", None, "The key of `upstream_client_cert` (PEM); none: it stands in the same file."
    )

    discover_file: Annotated[Path | None, Kind("a path", "FILE")] = _setting(
        "discovery",
        None,
        "A file (YAML, TOML or JSON) with a list of workers under `backend`; it is watched, and workers come "
        "and go as it changes.",
    )
    discover_file_interval_s: Seconds = _setting("discovery", 2.0, "Between two looks at `discover_file`.")
    discover_dns: DnsNames = _setting(
        "discovery",
        (),
        "A DNS name whose addresses are workers: `name:port`, or an SRV name (`_http._tcp.name`); options as "
        "with a backend (`,weight=2`). Needs the extra `dns`.",
    )
    discover_dns_min_interval_s: Seconds = _setting(
        "discovery", 5.0, "A name is not asked for more often than this, however short its TTL."
    )
    discover_dns_max_interval_s: Seconds = _setting(
        "discovery", 60.0, "A name is asked for at least this often, however long its TTL."
    )
    discover_dns_gone_after: Count = _setting(
        "discovery",
        3,
        "Answers in a row that know nothing of a name (NXDOMAIN, no records) before its workers are gone.",
    )
    discover_dns_server: Annotated[Text | None, Kind("an address, or address:port", "ADDRESS")] = _setting(
        "discovery", None, "DNS server to ask, `address` or `address:port`; none: the system's."
    )
    discover_kubernetes_service: Annotated[Text | None, Kind("the name of a Service", "NAME")] = _setting(
        "discovery",
        None,
        "A Kubernetes Service whose endpoints are workers (its EndpointSlices are watched). Needs the extra "
        "`kubernetes`.",
    )
    discover_kubernetes_selector: Words = _setting(
        "discovery",
        (),
        "Labels of the pods that are workers, `app=vllm role=decode` (all of them); instead of a Service. "
        "Needs the extra `kubernetes`.",
    )
    discover_kubernetes_namespace: Annotated[Text | None, Kind("the name of a namespace", "NAME")] = _setting(
        "discovery", None, "Namespace of the Service or pods; none: the router's own."
    )
    discover_kubernetes_port: Annotated[Text | None, Kind("a port's name or number", "PORT")] = _setting(
        "discovery", None, "Name or number of the workers' port; none: the only one that is declared."
    )
    discover_kubernetes_kubeconfig: Annotated[Path | None, Kind("a path", "FILE")] = _setting(
        "discovery",
        None,
        "How to reach the cluster; none: as a pod of it, else as `kubectl` does (`KUBECONFIG`).",
    )
    discovery_drain_s: Seconds = _setting(
        "discovery", 180.0, "A worker that vanished is removed when its requests have ended, or after this."
    )
    discovery_empty_hold_s: Seconds = _setting(
        "discovery",
        30.0,
        "When a source suddenly knows no worker that is ready, all stay until it has said so for this long.",
    )
    discovery_max_workers: Count = _setting(
        "discovery", 1024, "Workers that discovery adds at most; further ones are left out, and logged."
    )

    kv_events: KvEventsMode = _setting(
        "kv_events",
        OFF,
        "Know what the workers' caches hold by the KV events of vLLM and SGLang. auto: from where each "
        "worker says that it publishes them; `tcp://*:5557` or `bind:ENDPOINT`: the router listens there; "
        "`tcp://host:port` or `ipc:///path`: it connects there. Needs the extra `exact`.",
    )
    kv_events_max_blocks: Count = _setting(
        "kv_events",
        1_000_000,
        "Blocks that are kept of one worker, some 150 bytes each; of one that has more, nothing is known.",
    )
    kv_events_replay_timeout_s: Seconds = _setting(
        "kv_events", 2.0, "A worker that is asked for old events and says nothing for this long has none."
    )
    kv_events_verify_s: Seconds = _setting(
        "kv_events", 30.0, "A worker is asked this often whether there are events that were not received."
    )
    kv_events_stall_s: Seconds = _setting(
        "kv_events",
        5.0,
        "When a request must have made a worker store blocks, and no event came for this long behind its "
        "end, the worker's cache is not known any more until events come again.",
    )

    kv_host_load_s: TokenSeconds = _setting(
        "kv_events",
        _CORE["host_load_s"],
        "Time to bring one token's KV from a worker's host memory to where it computes; a hit there is worth "
        "what computing would take less this.",
    )
    kv_disk_load_s: TokenSeconds = _setting("kv_events", _CORE["disk_load_s"], "The same from its disk.")
    kv_external_load_s: TokenSeconds = _setting(
        "kv_events", _CORE["external_load_s"], "The same from a store behind the network."
    )

    policy: Text = _setting(
        "policy", "cache_aware", "Routing policy: a name, or `package.module:Class` for one of your own."
    )
    policy_param: Parameters = _setting("policy", {}, "A parameter of the policy.")
    shadow_policy: Policies = _setting(
        "policy",
        (),
        "Policies that decide on the same requests without acting, for comparison: `a,b`, or "
        "`NAME:param=value,…` (repeatable). Each costs a decision per request, and an index of its own.",
    )
    session_sticky: Switch = _setting(
        "policy",
        False,
        "Keep every session on its worker, whatever the policy, while that worker is healthy.",
    )
    session_header: HeaderNames = _setting(
        "policy",
        (
            "x-session-id",
            "x-smg-routing-key",
            "x-claude-code-session-id",
            "x-dynamo-session-id",
            "session-id",
            "thread-id",
        ),
        "Request headers that name a session, the first one present wins.",
    )
    seed: WholeNumber = _setting("policy", 0, "Seed of the policies that draw lots.")
    latency_preset: Annotated[Text, Kind("the name of a latency preset, or a file", "NAME")] = _setting(
        "policy",
        DEFAULT_PRESET,
        "Prefill cost of the workers: model and accelerator that come nearest, or a `.json` file that "
        "`simulator fit` wrote from your own engines' latencies.",
    )
    bytes_per_token: Positive = _setting(
        "policy", _CORE["bytes_per_token"], "Prompt bytes per token until the first answers have told."
    )
    index_max_bytes: Annotated[Size, Field(ge=MIB), Kind("bytes, at least 1MiB", "SIZE")] = _setting(
        "policy",
        _CORE["index_max_bytes"],
        "Memory for the index of prefixes; the oldest are forgotten first.",
    )

    tokenizer: Tokenizers = _setting(
        "tokenizer",
        (),
        "The model's tokenizer: a folder with `tokenizer.json`, `tokenizer_config.json` and, where the model "
        "has one, `chat_template.jinja`; or a `tokenizer.json`. For several models `MODEL=PATH`, any number "
        "of times; a path alone is for all others. `engine`, and none: engines are asked, which costs them "
        "time. Needs `warmroute[exact]`.",
    )
    tokenizer_threads: Count = _setting(
        "tokenizer", 2, "Threads that tokenize what is too long to be done at once."
    )
    tokenizer_inline_bytes: Size = _setting(
        "tokenizer",
        16 * KIB,
        "New text of a prompt up to this is tokenized at once; the library that engines use is sixteen times "
        "slower than the fast one, and does a sixteenth of it at once.",
    )
    tokenizer_timeout_s: Seconds = _setting(
        "tokenizer", 0.5, "A request whose tokens are not known by then goes on without them."
    )
    tokenizer_waiting_max: Count = _setting(
        "tokenizer", 256, "Prompts that may wait for a thread or an engine; one more goes on without tokens."
    )
    tokenizer_memory_bytes: Size = _setting(
        "tokenizer",
        256 * MIB,
        "Memory of where prompts ended, so that a next turn costs its own text only: 8 bytes per block of "
        "the engine's cache for each of a conversation's last two turns.",
    )

    max_inflight_per_worker: CountOrNone = _setting(
        "admission",
        None,
        "Requests that one worker may have in flight; further ones wait here. `max_inflight=N` of a backend "
        "goes before it.",
    )
    max_inflight: CountOrNone = _setting(
        "admission", None, "Requests in flight over all workers; further ones wait here."
    )
    queue_size: CountOrZero = _setting(
        "admission",
        100,
        "Requests that may wait for room where there is a limit; further ones are answered 429. 0: none "
        "waits.",
    )
    queue_timeout_s: Seconds = _setting(
        "admission", 60.0, "A request that has waited for room this long is answered 429."
    )
    deadline_header: HeaderNames = _setting(
        "admission",
        ("x-stainless-read-timeout", "x-stainless-timeout"),
        "Request headers with the seconds after which the client gives up; it does not wait for room longer "
        "than that. The default are those of OpenAI's and Anthropic's libraries.",
    )
    priority_class: PriorityClasses = _setting(
        "admission",
        ("high=16", "default=4", "low=1"),
        "Classes of requests that wait, with their shares of the places that become free.",
    )
    priority_default: Text = _setting("admission", "default", "Class of requests that name none.")
    priority_max: Text = _setting(
        "admission",
        "default",
        "Highest class that clients may name; higher ones count as this. `priority_max=CLASS` of a tenant "
        "goes before it.",
    )
    priority_header: HeaderNames = _setting(
        "admission",
        ("x-request-priority", "x-smg-priority"),
        "Request headers that name a class, the first one present wins.",
    )
    priority_field: Annotated[
        Literal["ignored", "lower_first", "higher_first"],
        Kind("one of ignored, lower_first, higher_first", "ORDER"),
    ] = _setting(
        "admission",
        "ignored",
        "What the number `priority` of a body means: lower_first, as for vLLM, is the highest class below 0 "
        "and the lowest above; higher_first, as for SGLang, the other way round.",
    )
    tenant_header: Annotated[HeaderName | None, Kind("a header's name", "NAME")] = _setting(
        "admission",
        None,
        "Request header that names the tenant. Set it only where whoever stands before the router writes it. "
        "None: a tenant is an API key.",
    )
    tenant: Tenants = _setting(
        "admission",
        (),
        "What holds for one tenant: `NAME,weight=2,priority_max=high,requests_per_s=5,"
        "prompt_tokens_per_s=9000` (repeatable; `inf` is no limit). Without `tenant_header` "
        "the name is `key-` and the first twelve hexadecimal digits of the key's SHA-256.",
    )
    rate_limit_requests_per_s: RateOrNone = _setting(
        "admission", None, "Requests per second of each tenant; more are answered 429."
    )
    rate_limit_prompt_tokens_per_s: RateOrNone = _setting(
        "admission",
        None,
        "Prompt tokens per second of each tenant, cached ones too: estimated, then corrected by what the "
        "engine counts.",
    )
    rate_limit_burst_s: Seconds = _setting(
        "admission", 10.0, "Seconds' worth of its rate limits that a tenant may use at once."
    )

    connect_timeout_s: Seconds = _setting("timeouts", 5.0, "Connecting to a worker.")
    first_byte_timeout_s: Seconds = _setting(
        "timeouts",
        _RESILIENCE["first_byte_timeout_s"],
        "From the request's last byte to the answer's first; a queue and a long prefill fit.",
    )
    idle_timeout_s: Seconds = _setting("timeouts", 300.0, "Between two pieces of a worker's answer.")
    total_timeout_s: Seconds = _setting(
        "timeouts", _RESILIENCE["total_timeout_s"], "A whole request, from its head to its end."
    )
    head_timeout_s: Seconds = _setting(
        "timeouts", 30.0, "From a request's first byte to the end of its head."
    )
    body_timeout_s: Seconds = _setting(
        "timeouts",
        120.0,
        "From the end of a request's head to its last byte; of a body that is passed on while it comes, from "
        "piece to piece.",
    )
    tunnel_idle_timeout_s: Seconds = _setting(
        "timeouts", 600.0, "A WebSocket on which neither side says anything; engines ping every 20 s."
    )
    keepalive_timeout_s: Seconds = _setting("timeouts", 75.0, "A client's connection between two requests.")
    shutdown_grace_s: Seconds = _setting(
        "timeouts", 180.0, "Time that streams have to finish after the signal to stop."
    )

    shutdown_idle_s: Seconds = _setting(
        "timeouts",
        2.0,
        "After the signal to stop, a client's idle connection stays open for this long: a request may be on "
        "its way.",
    )

    health_checks: Switch = _setting(
        "health",
        True,
        "Ask workers whether they are well. Off: every worker gets requests at once, and only requests that "
        "fail eject it.",
    )
    health_path: UrlPath = _setting("health", "/health", "Path that a healthy worker answers with 2xx.")
    health_interval_s: Seconds = _setting(
        "health", _RESILIENCE["health_interval_s"], "Between two checks of one worker."
    )
    health_timeout_s: Seconds = _setting("health", 5.0, "For one check.")
    health_rise: Count = _setting(
        "health", _RESILIENCE["health_rise"], "Good checks in a row that make a worker healthy again."
    )
    health_fall: Count = _setting(
        "health", _RESILIENCE["health_fall"], "Failed checks in a row that make a worker unhealthy."
    )
    eject_after_failures: Count = _setting(
        "health",
        _RESILIENCE["eject_after_failures"],
        "Requests in a row that fail by the worker's fault before it is ejected.",
    )
    eject_for_s: Seconds = _setting(
        "health",
        _RESILIENCE["eject_for_s"],
        "An ejected worker gets one probing request after this time; success brings it back.",
    )
    eject_error_rate: Share = _setting(
        "health",
        _RESILIENCE["eject_error_rate"],
        "A worker is ejected too when this share of its requests in `eject_window_s` failed by its fault; "
        "0: off.",
    )
    eject_slow_factor: NotNegative = _setting(
        "health",
        _RESILIENCE["eject_slow_factor"],
        "A worker is ejected too when its times to first byte, beside what was predicted, are this many "
        "times the other workers'; 4 is careful; 0: off.",
    )
    eject_window_s: Seconds = _setting(
        "health", _RESILIENCE["eject_window_s"], "How far back error rates and slowness are looked at."
    )
    eject_min_requests: Count = _setting(
        "health",
        _RESILIENCE["eject_min_requests"],
        "Requests of a worker within `eject_window_s` without which neither is judged.",
    )
    max_ejected_share: Share = _setting(
        "health",
        _RESILIENCE["max_ejected_share"],
        "No worker is ejected for its error rate or slowness that would leave more than this share of the "
        "workers without requests.",
    )

    slow_start_s: Annotated[
        float, Field(ge=0, le=86400, allow_inf_nan=False), Kind("seconds, at least 0", "SECONDS")
    ] = _setting(
        "health",
        _CORE["slow_start_s"],
        "For this long a worker that joins or comes back is held to a growing share of what the others have "
        "in flight. 0: off.",
    )
    panic_threshold: Share = _setting(
        "health",
        _CORE["panic_threshold"],
        "When fewer than this share of a model's workers are healthy, all that are not draining get "
        "requests: better a sick worker than none. 0: off; 0.01: only when none is healthy.",
    )

    load_poll: Annotated[Literal["off", "auto"], Kind("one of off, auto", "WHEN")] = _setting(
        "load",
        "off",
        "Ask engines for their load (SGLang's /v1/loads, vLLM's /load, /metrics), so that requests of other "
        "routers and direct clients count too. Off: a single router's own books are exact.",
    )
    load_orca: Switch = _setting(
        "load",
        False,
        "Ask engines to tell their load in the heads of answers (ORCA), at no question's cost. vLLM does in "
        "plain answers alone, not in streams: what waits, and how full its KV cache is.",
    )
    load_feed: Switch = _setting(
        "load",
        False,
        "Listen to SGLang's own messages about its load (its `--load-publish-endpoint`), where /server_info "
        "names their port; such an engine is not asked. Needs `warmroute[exact]`.",
    )
    load_poll_min_s: Seconds = _setting(
        "load",
        0.5,
        "Between two questions to a worker that has requests of others; to one that has only this router's, "
        "up to four times as long.",
    )
    load_poll_max_s: Seconds = _setting("load", 5.0, "Between two questions to an idle worker.")
    load_poll_share: Annotated[float, Field(gt=0, le=1), Kind("a number above 0 and up to 1", "X")] = (
        _setting(
            "load",
            0.01,
            "Of its time an engine spends no more than this with answers: who answers slowly is asked less.",
        )
    )
    load_stale_s: Seconds = _setting(
        "load",
        _CORE["load_stale_s"],
        "When an engine has told nothing for this long, requests of others there are forgotten.",
    )
    load_smoothing_s: Annotated[
        float, Field(ge=0, le=3600, allow_inf_nan=False), Kind("seconds, at least 0", "SECONDS")
    ] = _setting(
        "load",
        _CORE["load_smoothing_s"],
        "How slowly a change of others' load is believed: most of it after this time. Routers that believe "
        "the same report at once all run to the same worker. 0: at once.",
    )
    kv_pressure_gate: Annotated[
        float | None, Field(gt=0, le=1), Kind("a number above 0 and up to 1", "X")
    ] = _setting(
        "load",
        _CORE["kv_pressure_gate"],
        "A worker whose requests hold this share of its KV cache (0.97) while others wait there gets no new "
        "ones as long as another worker has room. None: off.",
    )

    retries: CountOrZero = _setting(
        "retries",
        _RESILIENCE["retries"],
        "Further workers to try when one fails before the first byte has reached the client.",
    )
    retry_budget_ratio: NotNegative = _setting(
        "retries", _RESILIENCE["retry_budget_ratio"], "Retries allowed per request, over the whole router."
    )
    retry_budget_min_per_s: NotNegative = _setting(
        "retries",
        _RESILIENCE["retry_budget_min_per_s"],
        "Retries per second that are allowed however few requests there are.",
    )

    hedge_after_p: Annotated[float | None, Field(ge=0.5, lt=1), Kind("a number from 0.5 to below 1", "X")] = (
        _setting(
            "retries",
            None,
            "Send a stream to a second worker too when its first byte takes longer than this share of recent "
            "ones did (0.95: all but a twentieth), by model and size of prefill; the first to answer wins. "
            "None: off.",
        )
    )
    hedge_min_s: Seconds = _setting(
        "retries", _RESILIENCE["hedge_min_s"], "No stream is hedged before it has waited for this long."
    )
    hedge_budget_ratio: Share = _setting(
        "retries", _RESILIENCE["hedge_budget_ratio"], "Hedges allowed per request, over the whole router."
    )

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(_level),
        Kind("one of debug, info, warning, error", "LEVEL"),
    ] = _setting("observability", "info", "Least important messages that are written.")
    log_format: Annotated[
        Literal["auto", "console", "json"], Kind("one of auto, console, json", "FORMAT")
    ] = _setting("observability", "auto", "Form of the log; auto: console on a terminal, else json.")
    access_log: Switch = _setting(
        "observability",
        False,
        "Write one line per request: what came, where it went and why, how much was cached, how it ended.",
    )
    audit_log: Annotated[Path | None, Kind("a path", "FILE")] = _setting(
        "observability",
        None,
        "Append a line of JSON here for every change of the router's state: what, by whom, from where, and "
        "how it ended. A file that was rotated away is made anew.",
    )
    otel_endpoint: HttpUrlOrNone = _setting(
        "observability",
        None,
        "Send a span per request to this OpenTelemetry collector, by OTLP over HTTP; `/v1/traces` is added "
        "where the URL has no path. Needs `warmroute[otel]`. See docs/tracing.md.",
    )
    otel_sample_ratio: Share = _setting(
        "observability",
        1.0,
        "Share of the traces that begin here that is sampled; a client's trace is sampled as it says.",
    )
    otel_service_name: Annotated[Text | None, Kind("text that is not empty", "NAME")] = _setting(
        "observability", None, "Name of the service in traces; none: OTEL_SERVICE_NAME, else `warmroute`."
    )
    journal: Annotated[Path | None, Kind("a path", "FILE")] = _setting(
        "observability",
        None,
        "Record every input of the decision core here: hashes, lengths and times, never prompt text.",
    )
    journal_max_bytes: Size = _setting(
        "observability",
        1 * GIB,
        "Recording ends when the journal has this size; what is there replays exactly.",
    )

    @field_validator("latency_preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        return preset_or_file(value)

    @field_validator("priority_default", "priority_max")
    @classmethod
    def _known_class(cls, value: str, info: ValidationInfo) -> str:
        return _class_among(value, info)

    @field_validator("tenant")
    @classmethod
    def _known_classes(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for text in value:
            most = parse_tenant(text).priority_max
            if most is not None:
                _class_among(most, info)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the arguments: `sources.load` reads the rest, so that it can say where a value came from."""
        return (init_settings,)


def _class_among(value: str, info: ValidationInfo) -> str:
    names = [parse_class(text).name for text in info.data.get("priority_class", ())]
    if names and value not in names:
        raise ValueError(f"there is no class {value!r} (known: {', '.join(names)})")
    return value


FIELDS: Final[dict[str, FieldInfo]] = dict(Settings.model_fields)


def flag_of(name: str) -> str:
    """The flag of a setting: `idle_timeout_s` is `--idle-timeout-s`."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of a setting: `idle_timeout_s` is `ROUTER_IDLE_TIMEOUT_S`."""
    return ENV_PREFIX + name.upper()


def is_list(field: FieldInfo) -> bool:
    """Whether a setting takes several values: its flag may be repeated."""
    return isinstance(field.default, (tuple, dict))


def is_switch(field: FieldInfo) -> bool:
    """Whether a setting is on or off: its flag has a `--no-` form."""
    return isinstance(field.default, bool)


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting's values are never shown."""
    return kind_of(field).metavar == "KEY"
