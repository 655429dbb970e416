"""Flags of the peers that mean something only beside another flag, and the policies that have other names.

Each rule takes what was used and what is given so far, and returns what it adds. A rule never overrides what
a flag of the router said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from warmroute.config.backends import worker_url
from warmroute.config.settings import FIELDS
from warmroute.config.sources import Given

Words = Mapping[str, list[str]]
"""Flags that were used, and what stood behind each."""


@dataclass
class Added:
    """What a rule adds. To be written by rules only."""

    given: dict[str, Given] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


Rule = Callable[[Words, Mapping[str, Given]], Added]

# What the peers take where `--prometheus-host` comes alone.
_PROMETHEUS_PORT: Final = "29000"
# The peers' collector where `--enable-trace` comes alone, and the ports of OTLP over gRPC and over HTTP.
_COLLECTOR: Final = "localhost:4317"
_OTLP_GRPC: Final = 4317
_OTLP_HTTP: Final = 4318

_THRESHOLDS: Final = {
    "--cache-threshold": "cache_threshold",
    "--cache-match-threshold": "cache_threshold",
    "--balance-abs-threshold": "balance_abs_threshold",
    "--spill-abs-threshold": "balance_abs_threshold",
    "--balance-rel-threshold": "balance_rel_threshold",
    "--spill-rel-threshold": "balance_rel_threshold",
    "--eviction-interval-secs": "eviction_interval_s",
    "--max-tree-size": "max_tree_chars",
}

_NEW_SESSIONS: Final = {"random": "random", "min_load": "least_requests"}
"""`--assignment-mode` as the rule inside `session_sticky`."""


@dataclass(frozen=True, slots=True)
class _Alike:
    """A policy of ours for one of theirs."""

    name: str
    params: tuple[str, ...] = ()


POLICIES: Final = {
    "manual": _Alike("session_sticky", ("inner=random",)),
    "sticky_least_loaded": _Alike("session_sticky"),
    "consistent_hashing": _Alike("consistent_hash"),
    "least_load": _Alike("least_prefill_work"),
    "kv_aware": _Alike("vllm_router_kv"),
}
"""Theirs that have another name here. In `session_sticky` a session leaves a worker that is far busier than
the others; `least_prefill_work` counts what the router sent instead of polling."""

NO_POLICY: Final = {
    "passthrough": "with a single worker every policy passes everything to it",
    "bucket": "it is for prefill workers; prefill and decode on separate workers is not offered",
}


def policy(words: Words, given: Mapping[str, Given]) -> Added:
    """`--policy` by a peer's name, and the rule for new sessions of `manual`."""
    added = Added()
    asked = given.get("policy")
    name = asked.value if asked is not None else ""
    mode = words.get("--assignment-mode")
    if name in NO_POLICY:
        added.problems.append(f"--policy {name}: there is no such policy here: {NO_POLICY[name]}")
    elif asked is not None and name in POLICIES:
        alike = POLICIES[name]
        added.given["policy"] = Given(alike.name, asked.origin)
        params = list(alike.params)
        if name == "manual" and mode is not None:
            if mode[0] in _NEW_SESSIONS:
                params = [f"inner={_NEW_SESSIONS[mode[0]]}"]
            else:
                added.problems.append(
                    f"--assignment-mode {mode[0]}: new sessions are assigned by "
                    f"{' or '.join(_NEW_SESSIONS)}, or by any policy: --session-sticky --policy NAME"
                )
        if params:
            _add_params(added, given, params, asked.origin)
        if name == "kv_aware" and "kv_events" not in given and "--kv-event-source" not in words:
            added.given["kv_events"] = Given("auto", asked.origin)
            added.notes.append("--policy kv_aware goes by KV events: --kv-events auto")
        told = " ".join((alike.name, *params))
        added.notes.append(f"--policy {name} is {told} here")
    if mode is not None and name != "manual":
        added.notes.append("--assignment-mode has no effect: it belongs to --policy manual")
    return added


def thresholds(words: Words, given: Mapping[str, Given]) -> Added:
    """The numbers of sglang-router's `cache_aware`, where its own rule is asked for."""
    added = Added()
    asked = given.get("policy")
    used = [flag for flag in words if flag in _THRESHOLDS]
    if asked is not None and asked.value == "sglang_cache_aware":
        for flag in used:
            _add_params(added, given, [f"{_THRESHOLDS[flag]}={words[flag][0]}"], flag)
    else:
        added.notes += [
            f"{flag} has no effect: cache_aware weighs seconds of predicted delay and needs no thresholds "
            "(--policy sglang_cache_aware is the rule that has them)"
            for flag in used
        ]
    return added


def metrics(words: Words, given: Mapping[str, Given]) -> Added:
    """`--prometheus-host` alone opens the peers' port."""
    added = Added()
    host = words.get("--prometheus-host")
    if host is not None:
        if "metrics_host" in given:
            added.notes.append(f"--prometheus-host has no effect: {given['metrics_host'].origin} is there")
        else:
            added.given["metrics_host"] = Given(host[0], "--prometheus-host")
        if "metrics_port" not in given:
            added.given["metrics_port"] = Given(_PROMETHEUS_PORT, "--prometheus-host")
    return added


def tracing(words: Words, given: Mapping[str, Given]) -> Added:
    """`--enable-trace` with `--otlp-traces-endpoint host:port`."""
    added = Added()
    endpoint = words.get("--otlp-traces-endpoint", [_COLLECTOR])[0]
    if "--enable-trace" not in words:
        if "--otlp-traces-endpoint" in words:
            added.notes.append("--otlp-traces-endpoint has no effect: --enable-trace is not there")
        return added
    if "otel_endpoint" in given:
        added.notes.append(f"--enable-trace has no effect: {given['otel_endpoint'].origin} is there")
        return added
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if host is None or port not in (_OTLP_GRPC, _OTLP_HTTP):
        added.problems.append(
            f"--otlp-traces-endpoint {endpoint}: spans go by OTLP over HTTP, so name the collector's port "
            "for that: --otel-endpoint http://HOST:4318"
        )
        return added
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{shown}:{_OTLP_HTTP}"
    added.given["otel_endpoint"] = Given(url, "--enable-trace")
    if port == _OTLP_GRPC:
        added.notes.append(f"spans go by OTLP over HTTP, to {url} instead of port {_OTLP_GRPC} (gRPC)")
    return added


def control_keys(words: Words, given: Mapping[str, Given]) -> Added:
    """`--control-plane-api-keys id:name:role:key …`: administrators' keys; users' beside `--api-key`."""
    added = Added()
    flag = "--control-plane-api-keys"
    keys: dict[str, list[str]] = {"admin": [], "user": []}
    for text in words.get(flag, ()):
        parts = text.split(":", 3)
        if len(parts) != 4 or parts[2].lower() not in keys or not parts[3]:
            added.problems.append(
                f"{flag}: expected id:name:role:key with the role admin or user"
            )  # no key is shown
            continue
        keys[parts[2].lower()].append(parts[3])
    if keys["admin"]:
        added.given["admin_api_key"] = _longer(given.get("admin_api_key"), keys["admin"], flag)
    if keys["user"] and "api_key" in given:
        added.given["api_key"] = _longer(given.get("api_key"), keys["user"], flag)
    elif keys["user"]:
        added.notes.append(f"{flag}: keys of the role user open nothing that is closed without --api-key")
    return added


def tenant(words: Words, given: Mapping[str, Given]) -> Added:
    """`--tenant-header-name`, which counts where the header is trusted."""
    added = Added()
    name = words.get("--tenant-header-name")
    if name is not None and "--trust-tenant-header" not in words:
        added.notes.append("--tenant-header-name has no effect: --trust-tenant-header is not there")
    elif name is not None and "tenant_header" in FIELDS:
        added.given["tenant_header"] = Given(name[0], "--tenant-header-name")
    return added


def breaker(words: Words, given: Mapping[str, Given]) -> Added:
    """`--disable-circuit-breaker`: no failures whatever eject a worker."""
    added = Added()
    flag = "--disable-circuit-breaker"
    if flag in words and "eject_error_rate" not in given:
        added.given["eject_error_rate"] = Given(0, flag)
    return added


def load_monitor(words: Words, given: Mapping[str, Given]) -> Added:
    """`--load-monitor-interval`: whoever tunes it wants engines to be asked, which smg does unasked."""
    added = Added()
    flag = "--load-monitor-interval"
    if flag not in words:
        return added
    poll, longest = given.get("load_poll"), given.get("load_poll_max_s")
    if poll is not None and poll.value == "off":
        added.notes.append(f"{flag} has no effect: {poll.origin} is there")
        return added
    if poll is None:
        added.given["load_poll"] = Given("auto", flag)
    if longest is None:
        added.given["load_poll_max_s"] = Given(words[flag][0], flag)
    else:
        added.notes.append(f"{flag} sets no interval: {longest.origin} is there")
    return added


def whole_time(words: Words, given: Mapping[str, Given]) -> Added:
    """`--request-timeout-secs`: the only time-out of an answer there, so none of ours comes before it."""
    added = Added()
    flag = "--request-timeout-secs"
    total = given.get("total_timeout_s")
    if flag in words and total is not None and total.origin == flag and "first_byte_timeout_s" not in given:
        added.given["first_byte_timeout_s"] = total
    return added


def ranks(words: Words, given: Mapping[str, Given]) -> Added:
    """`--intra-node-data-parallel-size`: so many ranks behind every worker's URL."""
    added = Added()
    flag = "--intra-node-data-parallel-size"
    count, listed = words.get(flag, ["1"])[0], given.get("backend")
    if count.strip() != "1" and listed is None:
        added.notes.append(f"{flag} has no effect: no worker is listed")
    elif count.strip() != "1" and listed is not None:
        added.given["backend"] = Given(
            [f"{url},ranks={count.strip()}" for url in listed.value], listed.origin
        )
    return added


def kv_events(words: Words, given: Mapping[str, Given]) -> Added:
    """Where workers' KV events are had from."""
    added, listed = Added(), given.get("backend")
    sources = [flag for flag in _KV_SOURCES if flag in words]
    if listed is None:
        added.notes += [f"{flag} has no effect: no worker is listed" for flag in sources]
        return added
    workers = list(listed.value)
    for flag in sources:
        option = _KV_SOURCES[flag]
        for text in words[flag]:
            worker, equals, endpoints = text.partition("=")
            if not equals or "," in endpoints:
                added.problems.append(
                    f"{flag} {text}: expected WORKER_URL=ENDPOINT, one for each worker; of several ranks "
                    "name the first one's, and say how many there are with --backend URL,ranks=N"
                )
                continue
            found = [place for place, one in enumerate(workers) if _is_worker(one, worker)]
            if not found:
                added.problems.append(f"{flag} {text}: no such worker is listed")
            for place in found:
                workers[place] = f"{workers[place]},{option}={endpoints}"
    if sources and not added.problems:
        added.given["backend"] = Given(workers, listed.origin)
    return added


_KV_SOURCES: Final = {"--kv-event-source": "kv_events", "--kv-event-replay-source": "kv_replay"}


def _is_worker(listed: Any, named: str) -> bool:
    try:
        return worker_url(str(listed).partition(",")[0]) == worker_url(named)
    except ValueError:
        return False


RULES: Final[tuple[Rule, ...]] = (
    policy, thresholds, metrics, tracing, control_keys, tenant, breaker, load_monitor, whole_time, ranks,
    kv_events,
)  # fmt: skip


def _add_params(added: Added, given: Mapping[str, Given], params: list[str], origin: str) -> None:
    """Parameters of the policy, but for those that the operator set."""
    before = added.given.get("policy_param") or given.get("policy_param")
    words = list(before.value) if before is not None else []
    names = {word.partition("=")[0] for word in words}
    words += [param for param in params if param.partition("=")[0] not in names]
    added.given["policy_param"] = Given(words, before.origin if before is not None else origin)


def _longer(before: Given | None, more: list[Any], origin: str) -> Given:
    if before is None:
        return Given(more, origin)
    return Given([*before.value, *more], before.origin)
