"""sglang-router's command line: its flags where they mean the same here, and an answer to each of the others.

A launch script of sglang-router 0.3.2 should either work or say in one line what to change. Three kinds:

- `ALIASES` mean the same as a setting and set it;
- `WITHOUT_EFFECT` tune a rule that has no counterpart here; they are accepted, and a line on stderr says so;
- `UNSUPPORTED` ask for what would be missed; they are refused, with the way to go where there is one.
"""

from __future__ import annotations

from typing import Final

ALIASES: Final[dict[str, str]] = {
    "--worker-urls": "backend",
    "--max-payload-size": "max_body_bytes",
    "--request-timeout-secs": "total_timeout_s",
    "--shutdown-grace-period-secs": "shutdown_grace_s",
    "--health-check-endpoint": "health_path",
    "--health-check-interval-secs": "health_interval_s",
    "--health-check-timeout-secs": "health_timeout_s",
    "--health-failure-threshold": "health_fall",
    "--health-success-threshold": "health_rise",
    "--cb-failure-threshold": "eject_after_failures",
    "--cb-timeout-duration-secs": "eject_for_s",
    "--selector": "discover_kubernetes_selector",
    "--service-discovery-port": "discover_kubernetes_port",
    "--service-discovery-namespace": "discover_kubernetes_namespace",
    "--tls-cert-path": "tls_cert",
    "--tls-key-path": "tls_key",
    "--client-cert-path": "upstream_client_cert",
    "--client-key-path": "upstream_client_key",
    "--ca-cert-paths": "upstream_ca",
    "--cors-allowed-origins": "cors_origin",
}

_COST = "cache_aware weighs seconds of predicted delay and needs no thresholds"
_INDEX = "the index of prefixes is bounded by --index-max-bytes"
_RETRY = "a retry goes to another worker at once, within --retry-budget-ratio"
_START = "workers may come up at any time, health checks find them"

WITHOUT_EFFECT: Final[dict[str, str]] = {
    "--cache-threshold": _COST,
    "--balance-abs-threshold": _COST,
    "--balance-rel-threshold": _COST,
    "--eviction-interval-secs": _INDEX,
    "--max-tree-size": _INDEX,
    "--retry-initial-backoff-ms": _RETRY,
    "--retry-max-backoff-ms": _RETRY,
    "--retry-backoff-multiplier": _RETRY,
    "--retry-jitter-factor": _RETRY,
    "--cb-success-threshold": "one good probe brings an ejected worker back",
    "--cb-window-duration-secs": "failures in a row are counted, not failures in a window",
    "--worker-startup-timeout-secs": _START,
    "--worker-startup-check-interval": _START,
    "--service-discovery": "pods are looked for where --selector says which",
}

WITHOUT_VALUE: Final = frozenset({"--service-discovery"})
"""Of those without effect, the switches."""

_PD = "prefill and decode on separate workers is not offered"
_TOKENS = "routing works on bytes and needs no tokenizer"
_PARSERS = "answers pass unchanged; let the engine parse them"
_STORE = "answers are not stored"
_ADMIN = "use --admin-api-key"
_LIMIT = "limits on concurrency and rate are not offered"
_METRICS = "metrics are at /metrics of --port"

UNSUPPORTED: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "--mini-lb",
            "--pd-disaggregation",
            "--prefill",
            "--decode",
            "--prefill-policy",
            "--decode-policy",
            "--prefill-selector",
            "--decode-selector",
            "--bucket-adjust-interval-secs",
        ),
        _PD,
    ),
    **dict.fromkeys(
        (
            "--model-path",
            "--tokenizer-path",
            "--chat-template",
            "--tokenizer-cache-enable-l0",
            "--tokenizer-cache-l0-max-entries",
            "--tokenizer-cache-enable-l1",
            "--tokenizer-cache-l1-max-memory",
        ),
        _TOKENS,
    ),
    **dict.fromkeys(("--reasoning-parser", "--tool-call-parser", "--mcp-config-path"), _PARSERS),
    **dict.fromkeys(
        (
            "--history-backend",
            "--oracle-wallet-path",
            "--oracle-tns-alias",
            "--oracle-connect-descriptor",
            "--oracle-username",
            "--oracle-password",
            "--oracle-pool-min",
            "--oracle-pool-max",
            "--oracle-pool-timeout-secs",
            "--postgres-db-url",
            "--postgres-pool-max",
            "--redis-url",
            "--redis-pool-max",
            "--redis-retention-days",
        ),
        _STORE,
    ),
    **dict.fromkeys(
        (
            "--control-plane-api-keys",
            "--control-plane-audit-enabled",
            "--jwt-issuer",
            "--jwt-audience",
            "--jwt-jwks-uri",
            "--jwt-role-mapping",
        ),
        _ADMIN,
    ),
    **dict.fromkeys(
        (
            "--max-concurrent-requests",
            "--queue-size",
            "--queue-timeout-secs",
            "--rate-limit-tokens-per-second",
        ),
        _LIMIT,
    ),
    **dict.fromkeys(("--prometheus-port", "--prometheus-host", "--prometheus-duration-buckets"), _METRICS),
    "--retry-max-retries": "it counts attempts; --retries counts further workers, so use one less there",
    "--disable-retries": "use --retries 0",
    "--disable-circuit-breaker": "ejection is always on; raise --eject-after-failures",
    "--disable-health-check": "health checks are always on; see --health-interval-s",
    "--max-idle-secs": "the policy `manual` is not offered; use --session-sticky",
    "--assignment-mode": "the policy `manual` is not offered; use --session-sticky",
    "--dp-aware": "list each data-parallel rank as a worker of its own, or see `warmroute.io/dp-ranks`",
    "--enable-igw": "several models are served without a switch",
    "--log-dir": "the log goes to stderr",
    "--request-id-headers": "the request id is taken from x-request-id",
    "--enable-trace": "tracing is not offered",
    "--otlp-traces-endpoint": "tracing is not offered",
}
