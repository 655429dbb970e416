"""What the router does with every flag of sglang-router, vllm-router and smg.

The three have one ancestor, so a name means the same in all of them. A launch script of theirs should work
with the program's name changed, or say in one line what to change. A refused flag that is given its own
default asks for nothing and is let pass (`translate`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from warmroute.config.peers.shape import (
    NEVER,
    Answer,
    constant,
    further_workers,
    pairs,
    refused,
    same,
    sets,
    together,
    unless_unlimited,
    without_effect,
)


def _all(answer: Answer, flags: str) -> dict[str, Answer]:
    return dict.fromkeys(flags.split(), answer)


def _merged(*parts: dict[str, Answer]) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for part in parts:
        twice = found.keys() & part.keys()
        assert not twice, f"two answers: {twice}"
        found |= part
    return found


_SAME: Final = {
    "--host": same("`router launch` takes sglang-router's default"),
    "--port": same(),
    "--policy": same("names that differ are translated, as said above"),
    "--api-key": same(
        "clients must present it, and it passes on to the workers as they sent it; vllm-router asks no client"
    ),
    "--log-level": same("`warn` is `warning`, `critical` is `error`"),
    "--backend": same("here a worker's URL; the name of an engine is let pass, for any engine is served"),
}

_SETS: Final = {
    "--worker-urls": sets("backend"),
    "--max-payload-size": sets("max_body_bytes"),
    "--request-timeout-secs": sets(
        "total_timeout_s", text="and `first_byte_timeout_s`: an answer that is no stream comes at its end"
    ),
    "--shutdown-grace-period-secs": sets("shutdown_grace_s"),
    "--request-id-headers": sets("request_id_header"),
    "--health-check-endpoint": sets("health_path"),
    "--health-check-interval-secs": sets("health_interval_s"),
    "--health-check-timeout-secs": sets("health_timeout_s"),
    "--health-failure-threshold": sets("health_fall"),
    "--health-success-threshold": sets("health_rise"),
    "--disable-health-check": sets("health_checks", constant(False)),
    "--cb-failure-threshold": sets("eject_after_failures", text="4xx answers count there, not here"),
    "--disable-circuit-breaker": sets("eject_after_failures", constant(NEVER), "and `eject_error_rate 0`"),
    "--cb-timeout-duration-secs": sets("eject_for_s", text="a failed probe doubles it here, up to eightfold"),
    "--retry-max-retries": sets(
        "retries", further_workers, "counts attempts in all; here those after the first, one less"
    ),
    "--disable-retries": sets("retries", constant(0)),
    "--selector": sets("discover_kubernetes_selector", pairs),
    "--service-discovery-port": sets(
        "discover_kubernetes_port", text="here the only declared one by default"
    ),
    "--service-discovery-namespace": sets(
        "discover_kubernetes_namespace", text="without it all namespaces there, the router's own here"
    ),
    "--prometheus-port": sets("metrics_port", text="/metrics is on --port as well"),
    "--disable-load-monitoring": sets("load_poll", constant("off")),
    "--sticky-sessions": sets("session_sticky", constant(True)),
    "--routing-key-override": sets("session_sticky", constant(True)),
    "--routing-key-headers": sets("session_header"),
    "--header-read-timeout-secs": sets("head_timeout_s"),
    "--idle-connection-timeout-secs": sets("keepalive_timeout_s"),
    "--upstream-pool-idle-timeout-secs": sets("upstream_keepalive_s"),
    "--discovery-check-interval-secs": sets("discover_file_interval_s"),
    "--log-json": sets("log_format", constant("json")),
    "--max-concurrent-requests": sets("max_inflight", unless_unlimited, "a negative number or 0: no limit"),
    "--queue-size": sets("queue_size"),
    "--queue-timeout-secs": sets("queue_timeout_s"),
    "--rate-limit-tokens-per-second": sets(
        "rate_limit_requests_per_s",
        unless_unlimited,
        "counts requests, for all its name; there of all clients together, here of each API key",
    ),
    "--tls-cert-path": sets("tls_cert"),
    "--tls-key-path": sets("tls_key"),
    "--ca-cert-paths": sets("upstream_ca"),
    "--client-cert-path": sets("upstream_client_cert"),
    "--client-key-path": sets("upstream_client_key"),
    "--cors-allowed-origins": sets("cors_origin"),
    "--trust-tenant-header": sets(
        "tenant_header", constant("x-smg-tenant-id"), "the header's name is `--tenant-header-name`"
    ),
}

_TOGETHER: Final = {
    "--prometheus-host": together(
        "metrics_host", "opens port 29000 where `--prometheus-port` names no other"
    ),
    "--assignment-mode": together("policy_param", "with `--policy manual`: the rule for new sessions"),
    "--enable-trace": together("otel_endpoint", "spans go by OTLP over HTTP, to port 4318 instead of 4317"),
    "--otlp-traces-endpoint": together("otel_endpoint", "with `--enable-trace`; port 4317 becomes 4318"),
    "--control-plane-api-keys": together(
        "admin_api_key", "keys of `admin`; those of `user` join `--api-key` where there is one"
    ),
    "--kv-event-source": together("backend", "the worker with `kv_events=ENDPOINT`"),
    "--kv-event-replay-source": together("backend", "the worker with `kv_replay=ENDPOINT`"),
    "--load-monitor-interval": together(
        "load_poll_max_s",
        "with `load_poll auto`, unless `--disable-load-monitoring`: so long between two questions to an "
        "idle worker, a busy one is asked more often",
    ),
    "--intra-node-data-parallel-size": together("backend", "every URL with `ranks=N`"),
    "--tenant-header-name": together("tenant_header", "with `--trust-tenant-header`"),
    **_all(
        together("policy_param", "with `--policy sglang_cache_aware`, the same rule; else without effect"),
        "--cache-threshold --cache-match-threshold --balance-abs-threshold --spill-abs-threshold "
        "--balance-rel-threshold --spill-rel-threshold --eviction-interval-secs --max-tree-size",
    ),
}

_COST: Final = "cache_aware weighs seconds of predicted delay and needs no thresholds"
_INDEX: Final = "the index of prefixes is bounded by --index-max-bytes"
_RETRY: Final = "a retry goes to another worker at once, within --retry-budget-ratio"
_START: Final = "workers may come up at any time, health checks find them"
_TOKENS: Final = "routing works on bytes and needs no tokenizer"
_PARSERS: Final = "answers pass unchanged: the engine parses them, with its own flag of that kind"
_BOOKS: Final = "what engines tell of their load (--load-poll) is added to the router's own books"
_TRUST: Final = "health checks and ejection say who gets requests"
_IMAGES: Final = "images and sound pass to the engine as they came"
_PARAMETER: Final = "a policy's parameters are --policy-param NAME=VALUE"

_WITHOUT_EFFECT: Final = _merged(
    _all(
        without_effect("every change is in the log; --audit-log FILE keeps them apart"),
        "--control-plane-audit-enabled",
    ),
    _all(
        without_effect(_RETRY),
        "--retry-initial-backoff-ms --retry-max-backoff-ms --retry-backoff-multiplier --retry-jitter-factor",
    ),
    _all(
        without_effect(_START),
        "--worker-startup-timeout-secs --worker-startup-check-interval --worker-startup-delay",
    ),
    _all(
        without_effect(_TOKENS),
        "--model-path --model --tokenizer-path --chat-template --tokenizer-cache-enable-l0 "
        "--tokenizer-cache-l0-max-entries --tokenizer-cache-l0-max-memory --tokenizer-cache-enable-l1 "
        "--tokenizer-cache-l1-max-memory --disable-tokenizer-autoload",
    ),
    _all(without_effect(_PARSERS), "--reasoning-parser --tool-call-parser --parser"),
    _all(
        without_effect(_COST),
        "--selection-policy --selection-temperature --selection-accounting-ttl-ms --overlap-decay "
        "--balance-token-usage-threshold --overload-token-usage-threshold --worker-overload-waiting-requests "
        "--worker-overload-token-usage --worker-overload-protection --disable-worker-overload-protection",
    ),
    _all(without_effect(_INDEX), "--kv-index --cache-index --cache-boundaries --cache-ttl-secs --block-size"),
    _all(
        without_effect(_BOOKS),
        "--least-load-kv-pressure-weight --least-load-default-throughput --least-load-mean-prefill-tokens "
        "--least-load-max-waiting-requests --power-of-two-load-metric",
    ),
    _all(
        without_effect(_PARAMETER),
        "--prefix-token-count --prefix-hash-load-factor --prefix-hash-balance-abs-threshold",
    ),
    _all(
        without_effect(_TRUST),
        "--worker-stall-secs --worker-wedge-secs --worker-stale-secs --remove-unhealthy-workers "
        "--no-remove-unhealthy-workers --worker-auto-recovery --no-worker-auto-recovery",
    ),
    _all(
        without_effect("a worker that is new or empty is found by its price"),
        "--worker-warmup-secs --worker-warmup-share --worker-warmup-blocks --worker-warmup-thin-ratio "
        "--worker-warmup-divert-every",
    ),
    _all(
        without_effect(_IMAGES),
        "--multimodal-tensor-transport --multimodal-shm-min-bytes --multimodal-max-inflight-bytes "
        "--mm-per-request-image-limit --mm-processing --mm-pixel-cache-mb --mm-pixel-rdma "
        "--mm-allowed-media-domains --mm-allow-private-media-hosts --rdma-listen-ip --rdma-slot-ttl-s "
        "--log-mm-timing",
    ),
    _all(
        without_effect("sessions are remembered in a table of 100,000, the oldest is forgotten"),
        "--max-idle-secs --sticky-key-idle-secs",
    ),
    _all(
        without_effect("workers are added and removed at once"),
        "--job-queue-capacity --job-queue-concurrency",
    ),
    {
        "--cb-success-threshold": without_effect("one good probe brings an ejected worker back"),
        "--cb-window-duration-secs": without_effect(
            "failures in a row are counted, not failures in a window"
        ),
        "--service-discovery": without_effect("pods are looked for where --selector says which"),
        "--enable-igw": without_effect("several models are served without a switch"),
        "--prometheus-duration-buckets": without_effect("the histograms have buckets of their own"),
        "--max-buffered-request-bytes": without_effect(
            "a body is kept until its answer begins; --max-buffered-bytes bounds all of them"
        ),
        "--stream-body-stall-timeout-secs": without_effect("a whole body has --body-timeout-s"),
        "--sse-keepalive-secs": without_effect("streams pass as the engine writes them"),
        "--upstream-http2": without_effect(
            "workers are spoken to by HTTP/1.1, on connections that stay open"
        ),
        "--max-background-responses": without_effect("background responses are the engine's"),
        "--kv-event-block-size": without_effect("events say how large blocks are"),
        "--kv-event-model": without_effect("workers are asked for their models"),
        "--kv-penalty-host": without_effect("a hit there is worth its time: --kv-host-load-s"),
        "--kv-penalty-disk": without_effect("a hit there is worth its time: --kv-disk-load-s"),
        "--kv-penalty-external": without_effect("a hit there is worth its time: --kv-external-load-s"),
        "--model-id-from": without_effect("workers are asked for their models, or `model=` names them"),
    },
)

_PD: Final = "prefill and decode on separate workers is not offered; list workers that do both with --backend"
_STORE: Final = "answers are not stored by the router"
_ROLES: Final = "tokens of an identity provider are not checked; use --api-key and --admin-api-key"
_RANKS: Final = "say how many data-parallel ranks are behind a URL: --backend URL,ranks=N"
_PROGRAMS: Final = "programs are not scheduled; --session-sticky keeps an agent's requests on its worker"
_WASM: Final = "there are no WASM modules; put them in front"
_MESH: Final = "routers share nothing; tell each how many there are with --replicas"
_RL: Final = "training's control calls are not passed on; send them to the engines"
_CLASSES: Final = "use --priority-class and --priority-max"

_REFUSED: Final = _merged(
    _all(
        refused(_PD),
        "--mini-lb --pd-disaggregation --vllm-pd-disaggregation --epd-disaggregation --prefill --decode "
        "--encode --prefill-policy --decode-policy --encode-policy --prefill-selector --decode-selector "
        "--encode-selector --bucket-adjust-interval-secs --kv-connector --kv-connector-annotation "
        "--kv-engine-id-annotation --vllm-discovery-address --pd-kv-events --pd-admission-wait-secs "
        "--prefill-max-inflight-requests-per-worker --prefill-queue-size --prefill-queue-timeout-secs",
    ),
    _all(
        refused(_STORE),
        "--history-backend --history-memory-max-responses --history-memory-max-items "
        "--history-memory-retention-secs --oracle-wallet-path --oracle-tns-alias --oracle-connect-descriptor "
        "--oracle-username --oracle-password --oracle-external-auth --oracle-pool-min --oracle-pool-max "
        "--oracle-pool-timeout-secs --postgres-db-url --postgres-pool-max --postgres-op-timeout-secs "
        "--redis-url --redis-pool-max --redis-retention-days --redis-op-timeout-secs --schema-config "
        "--storage-context-headers --storage-hook-wasm-path",
    ),
    _all(refused(_ROLES), "--jwt-issuer --jwt-audience --jwt-jwks-uri --jwt-role-mapping"),
    _all(refused(_RANKS), "--dp-aware --dp-minimum-tokens-scheduler"),
    _all(refused(_PROGRAMS), "--enable-program-scheduling --program-scheduling-config-json"),
    _all(refused(_WASM), "--wasm-middleware --wasm-middleware-sha256 --wasm-middleware-route --enable-wasm"),
    _all(
        refused(_MESH),
        "--enable-mesh --mesh-server-name --mesh-host --mesh-advertise-host --mesh-port --mesh-peer-urls "
        "--mesh-tls-ca-cert --mesh-tls-cert --mesh-tls-key --router-selector",
    ),
    _all(refused(_RL), "--enable-rl --rl-control-timeout-secs --rl-fanout-concurrency"),
    _all(
        refused(_CLASSES),
        "--priority-scheduler-enabled --priority-scheduler-default-max-class --priority-scheduler-config "
        "--priority-scheduler-tenant-metric-top-n",
    ),
    _all(
        refused("use --tenant and --rate-limit-requests-per-s"),
        "--tenant-rate-limit-enabled --tenant-rate-limit-config",
    ),
    {
        "--api-key-validation-urls": refused("keys are not validated elsewhere; list them with --api-key"),
        "--discovery-file": refused("use --discover-file: a file with a list of workers under `backend`"),
        "--discovery-provider": refused("workers are found by --selector, --discover-file or --discover-dns"),
        "--health-check-port": refused("probes are answered on --port"),
        "--jemalloc-prof-dir": refused("heap profiles are not offered"),
        "--kv-aware-session-affinity-ttl-secs": refused("use --session-sticky"),
        "--router-temperature": refused("the cheapest worker is taken, not a likely one of the cheap ones"),
        "--log-dir": refused("the log goes to stderr; send that to a file (`2>>router.log`)"),
        "--mcp-config-path": refused("tools are not called by the router; let the client call them"),
        "--model-alias": refused("let the engines serve the name as well (`--served-model-name`)"),
        "--tenant-api-key": refused("list the keys with --api-key"),
        "--worker-overload-shed": refused("requests go where they wait least, however long that is"),
        "--zmq-engine-count": refused("engines are reached by HTTP"),
    },
)

ANSWERS: Final = _merged(_SAME, _SETS, _TOGETHER, _WITHOUT_EFFECT, _REFUSED)
"""Flag to answer. Where several set one setting, the later one here wins."""


def of_kind(flags: Iterable[str], kind: str) -> list[str]:
    """Those of the flags that have this kind of answer, in their order."""
    return [flag for flag in flags if ANSWERS[flag].kind.value == kind]
