"""Every setting of the router, with the only place where its default stands.

`Settings(...)` takes values and reads nothing else; `sources.load` collects flags, environment and file.
The groups here are those of `router serve --help` and of docs/configuration.md. Defaults of the decision
core are the core's own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from warmroute.config.backends import Backends
from warmroute.config.kinds import (
    Count,
    CountOrZero,
    HeaderNames,
    HttpUrlOrNone,
    Kind,
    NotNegative,
    Parameters,
    Policies,
    Port,
    Positive,
    Seconds,
    Secrets,
    Share,
    Size,
    Switch,
    Text,
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
    # sglang-router says "warn".
    return {"warn": "warning"}.get(value.lower(), value.lower()) if isinstance(value, str) else value


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

    host: Text = _setting("server", "127.0.0.1", "Address to listen on; 0.0.0.0 is every IPv4 interface.")
    port: Port = _setting(
        "server", 30000, "Port to listen on, for requests, administration and metrics alike."
    )
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
    api_key: Secrets = _setting(
        "server", (), "Keys that clients may use (`Authorization: Bearer` or `x-api-key`); none: open to all."
    )
    admin_api_key: Secrets = _setting(
        "server", (), "Keys for the endpoints that change or show the router's state; none: those of clients."
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
        "`kv_capacity_tokens=N`, `preset=NAME` (latency preset). More can be added while the router runs.",
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
        "timeouts", 120.0, "From the end of a request's head to its last byte."
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
