"""Command lines that the peers document, and what becomes of them with the program's name changed.

Collected from their READMEs, documentation and test suites. Each either resolves to settings or is refused
in as many lines as it has flags without a counterpart.
"""

from __future__ import annotations

import json
import os
import shlex
from typing import Any

import pytest

from warmroute import cli
from warmroute.config.backends import Backend
from warmroute.config.peers import environment
from warmroute.config.settings import FIELDS

A, B = "http://worker1:8000", "http://worker2:8000"
BOTH = f"--worker-urls {A} {B}"


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("ROUTER_", "SMG_", "VLLM_ROUTER_")):
            monkeypatch.delenv(name)


def settings_of(capsys: pytest.CaptureFixture[str], line: str) -> tuple[dict[str, Any], list[str]]:
    """The settings that somebody chose, and the lines on stderr."""
    code = cli.main(["config", "--json", "-", *shlex.split(line)])
    out, err = capsys.readouterr()
    assert code == cli.OK, err
    chosen = {name: it["value"] for name, it in json.loads(out).items() if it["source"] != "default"}
    if "backend" in chosen:
        chosen["backend"] = [str(Backend(**backend)) for backend in chosen["backend"]]
    return chosen, err.splitlines()


def problems_of(capsys: pytest.CaptureFixture[str], line: str) -> list[str]:
    code = cli.main(["config", *shlex.split(line)])
    out, err = capsys.readouterr()
    assert (code, out) == (cli.USAGE, "")
    return [text.removeprefix("router: error: ") for text in err.splitlines()]


WORKERS = {"backend": [A, B]}

DOCUMENTED: list[tuple[str, dict[str, Any]]] = [
    (f"{BOTH} --policy cache_aware", WORKERS | {"policy": "cache_aware"}),
    ("--enable-igw --policy cache_aware --max-concurrent-requests -1", {"policy": "cache_aware"}),
    (
        f"--worker-urls {A} --model-path meta-llama/Llama-3.1-8B-Instruct --host 0.0.0.0 --port 8080",
        {"backend": [A], "host": "0.0.0.0", "port": 8080},
    ),
    (f"--backend openai --worker-urls {A} --history-backend memory", {"backend": [A]}),
    (f"--backend openai --worker-urls {A} --history-backend none", {"backend": [A]}),
    (
        f"--worker-urls {A} --enable-trace --otlp-traces-endpoint localhost:4317",
        {"backend": [A], "otel_endpoint": "http://localhost:4318"},
    ),
    (f'--api-key "shared-api-key" {BOTH}', WORKERS | {"api_key": ["********"]}),
    (
        (
            "--service-discovery --selector app=sglang-worker role=inference --service-discovery-namespace "
            "production --service-discovery-port 8000"
        ),
        {
            "discover_kubernetes_selector": ["app=sglang-worker", "role=inference"],
            "discover_kubernetes_namespace": "production",
            "discover_kubernetes_port": "8000",
        },
    ),
    (
        (
            f"{BOTH} --retry-max-retries 3 --retry-initial-backoff-ms 100 --retry-max-backoff-ms 10000 "
            "--retry-backoff-multiplier 2.0 --retry-jitter-factor 0.1"
        ),
        WORKERS | {"retries": 2},
    ),
    (
        (
            f"{BOTH} --cb-failure-threshold 5 --cb-success-threshold 2 --cb-timeout-duration-secs 30 "
            "--cb-window-duration-secs 60"
        ),
        WORKERS | {"eject_after_failures": 5, "eject_for_s": 30.0},
    ),
    (
        (
            f"{BOTH} --health-check-interval-secs 30 --health-check-timeout-secs 10 "
            "--health-failure-threshold 3 --health-success-threshold 2 --health-check-endpoint /health"
        ),
        WORKERS
        | {
            "health_interval_s": 30.0,
            "health_timeout_s": 10.0,
            "health_fall": 3,
            "health_rise": 2,
            "health_path": "/health",
        },
    ),
    (
        (
            f"{BOTH} --policy cache_aware --cache-threshold 0.5 --balance-abs-threshold 32 "
            "--balance-rel-threshold 1.5 --eviction-interval-secs 120 --max-tree-size 67108864"
        ),
        WORKERS | {"policy": "cache_aware"},
    ),
    (
        f"{BOTH} --policy manual --assignment-mode min_load --max-idle-secs 3600",
        WORKERS | {"policy": "session_sticky", "policy_param": {"inner": "least_requests"}},
    ),
    (
        f"{BOTH} --prometheus-host 0.0.0.0 --prometheus-port 9000",
        WORKERS | {"metrics_host": "0.0.0.0", "metrics_port": 9000},
    ),
    (
        f"{BOTH} --request-id-headers x-trace-id x-request-id",
        WORKERS | {"request_id_header": ["x-trace-id", "x-request-id"]},
    ),
    (
        f"{BOTH} --policy consistent_hash --intra-node-data-parallel-size 1",
        WORKERS | {"policy": "consistent_hash"},
    ),
    (
        f"{BOTH} --policy consistent_hash --intra-node-data-parallel-size 8",
        {
            "backend": [f"{url}@{rank}" for url in (A, B) for rank in range(8)],
            "policy": "consistent_hash",
        },
    ),
    (
        f"{BOTH} --policy power_of_two --disable-retries --disable-circuit-breaker",
        WORKERS
        | {"policy": "power_of_two", "retries": 0, "eject_after_failures": 2**32 - 1, "eject_error_rate": 0},
    ),
    (
        (
            f"{BOTH} --request-timeout-secs 1800 --max-payload-size 536870912 "
            "--shutdown-grace-period-secs 180 --worker-startup-timeout-secs 600 "
            "--worker-startup-check-interval 30 --log-level warn"
        ),
        WORKERS
        | {
            "total_timeout_s": 1800.0,
            "first_byte_timeout_s": 1800.0,
            "max_body_bytes": 536870912,
            "shutdown_grace_s": 180.0,
            "log_level": "warning",
        },
    ),
    (
        (
            f"{BOTH} --control-plane-api-keys 'svc1:CI Pipeline:admin:secret-key-123' "
            "'svc2:Monitoring:user:readonly-key-456'"
        ),
        WORKERS | {"admin_api_key": ["********"]},
    ),
    (
        (
            f"{BOTH} --sticky-sessions --routing-key-headers x-user x-team --header-read-timeout-secs 20 "
            "--idle-connection-timeout-secs 60 --upstream-pool-idle-timeout-secs 3 --log-json"
        ),
        WORKERS
        | {
            "session_sticky": True,
            "session_header": ["x-user", "x-team"],
            "head_timeout_s": 20.0,
            "keepalive_timeout_s": 60.0,
            "upstream_keepalive_s": 3.0,
            "log_format": "json",
        },
    ),
    (f"{BOTH} --disable-health-check", WORKERS | {"health_checks": False}),
    (f"{BOTH} --policy kv_aware", WORKERS | {"policy": "vllm_router_kv", "kv_events": "auto"}),
    (
        (
            f"{BOTH} --policy kv_aware --kv-event-source {A}=tcp://worker1:5557 "
            f"--kv-event-source {B}=tcp://worker2:5557 --kv-event-replay-source {B}=tcp://worker2:5558 "
            "--kv-event-block-size 16 --kv-event-model m --kv-penalty-host 0.5 --router-temperature 0"
        ),
        {
            "backend": [
                f"{A},kv_events=tcp://worker1:5557",
                f"{B},kv_events=tcp://worker2:5557,kv_replay=tcp://worker2:5558",
            ],
            "policy": "vllm_router_kv",
        },
    ),
    (f"{BOTH} --reasoning-parser deepseek-r1 --tool-call-parser json", WORKERS),
]


@pytest.mark.parametrize(("line", "chosen"), DOCUMENTED, ids=[line[-60:] for line, _ in DOCUMENTED])
def test_a_documented_command_line_gives_the_settings_that_it_means(
    line: str, chosen: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings_of(capsys, line)[0] == chosen


REFUSED: list[tuple[str, list[str]]] = [
    (
        (
            "--pd-disaggregation --prefill http://prefill1:30001 9001 --prefill http://prefill2:30002 "
            "--decode http://decode1:30011 --decode http://decode2:30012 --policy cache_aware "
            "--prefill-policy cache_aware --decode-policy power_of_two"
        ),
        ["--pd-disaggregation", "--prefill", "--decode", "--prefill-policy", "--decode-policy"],
    ),
    (
        "--mini-lb --pd-disaggregation --prefill http://localhost:30001 --decode http://localhost:30011",
        ["--mini-lb", "--pd-disaggregation", "--prefill", "--decode"],
    ),
    (
        (
            "--policy consistent_hash --vllm-pd-disaggregation --vllm-discovery-address 0.0.0.0:30001 "
            "--host 0.0.0.0 --port 10001 --prefill-policy consistent_hash --decode-policy consistent_hash"
        ),
        ["--vllm-pd-disaggregation", "--vllm-discovery-address", "--prefill-policy", "--decode-policy"],
    ),
    (
        "--policy consistent_hash --vllm-pd-disaggregation --kv-connector mooncake --prefill http://a:1",
        ["--vllm-pd-disaggregation", "--kv-connector", "--prefill"],
    ),
    (f"{BOTH} --dp-aware", ["--dp-aware"]),
    (f"--mcp-config-path /path/to/mcp-config.yaml --worker-urls {A}", ["--mcp-config-path"]),
    (
        (
            f"--worker-urls {A} --jwt-issuer https://login.example/v2.0 --jwt-audience api://gateway "
            "--jwt-role-mapping Gateway.Admins=admin Gateway.Users=user"
        ),
        ["--jwt-issuer", "--jwt-audience", "--jwt-role-mapping"],
    ),
    (f"--backend openai --worker-urls {A} --history-backend oracle", ["--history-backend"]),
    (
        f"--worker-urls {A} --wasm-middleware plugin.wasm --wasm-middleware-route /v1/chat/completions",
        ["--wasm-middleware", "--wasm-middleware-route"],
    ),
    ("--api-key-validation-urls https://codebase.example/api/v4/user", ["--api-key-validation-urls"]),
    (f"{BOTH} --log-dir /var/log/router", ["--log-dir"]),
    (f"{BOTH} --policy kv_aware --kv-event-source worker1=tcp://worker1:5557", ["--kv-event-source"]),
    (f"{BOTH} --kv-event-source {A}=tcp://w:1,tcp://w:2", ["--kv-event-source"]),
    (f"{BOTH} --kv-event-replay-source tcp://w:1", ["--kv-event-replay-source"]),
    (f"{BOTH} --router-temperature 0.7", ["--router-temperature"]),
    (f"{BOTH} --policy passthrough", ["--policy"]),
    (f"{BOTH} --policy manual --assignment-mode min_group", ["--assignment-mode"]),
    (f"{BOTH} --enable-trace --otlp-traces-endpoint collector:9999", ["--otlp-traces-endpoint"]),
    (f"{BOTH} --control-plane-api-keys 'a:b:root:k'", ["--control-plane-api-keys"]),
    (f"{BOTH} --retry-max-retries many", ["--retry-max-retries"]),
    ("--worker-urls grpc://worker1:31001", ["--worker-urls[0].url"]),
]


@pytest.mark.parametrize(("line", "flags"), REFUSED, ids=[line[-60:] for line, _ in REFUSED])
def test_a_command_line_that_asks_for_what_is_not_here_is_refused_flag_by_flag(
    line: str, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    problems = problems_of(capsys, line)
    assert sorted(problem.split(" ")[0].rstrip(":") for problem in problems) == sorted(flags)


def test_a_key_is_never_shown_where_its_flag_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    problems = problems_of(capsys, "--control-plane-api-keys 'id:name:root:hunter2' hunter2")
    assert len(problems) == 2
    assert not any("hunter2" in problem for problem in problems)


def test_keys_of_users_open_what_the_clients_key_guards(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = "--control-plane-api-keys a:b:user:one c:d:admin:two"
    with_key, told = settings_of(capsys, f"--api-key zero {keys}")
    assert (len(with_key["api_key"]), len(with_key["admin_api_key"]), told) == (2, 1, [])
    without, told = settings_of(capsys, keys)
    assert "api_key" not in without, "keys of users do not close what is open"
    assert len(told) == 1


def test_abbreviations_of_their_documentation_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    chosen, _ = settings_of(capsys, f"--worker-url {A} --request-timeout 60 --cb-fail=7")
    assert chosen == {
        "backend": [A],
        "total_timeout_s": 60.0,
        "first_byte_timeout_s": 60.0,
        "eject_after_failures": 7,
    }
    if "upstream_ca" not in FIELDS:
        (problem,) = problems_of(capsys, f"--worker-urls {A} --ca-cert-path /path/to/ca.crt")
        assert problem.startswith("--ca-cert-paths ")


def test_workers_that_are_listed_twice_add_up_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    chosen, told = settings_of(capsys, f"--worker-urls {A} --worker-urls {B}")
    assert chosen == WORKERS
    assert [line for line in told if "2 times" in line]
    assert settings_of(capsys, f"--backend {A} --worker-urls {B}") == (WORKERS, [])


def test_the_last_use_of_anything_else_counts(capsys: pytest.CaptureFixture[str]) -> None:
    chosen, _ = settings_of(capsys, "--request-timeout-secs 5 --request-timeout-secs 6")
    assert chosen == {"total_timeout_s": 6.0, "first_byte_timeout_s": 6.0}


def test_a_flag_of_the_router_wins_over_a_peers_whatever_their_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for line in ("--retries 7 --disable-retries", "--retry-max-retries 3 --retries 7"):
        chosen, told = settings_of(capsys, line)
        assert (chosen, len(told)) == ({"retries": 7}, 1), "and that is said"
    line = "--metrics-host ::1 --prometheus-host 1.2.3.4 --enable-trace --otel-endpoint http://o:1"
    chosen, told = settings_of(capsys, line)
    assert chosen == {"metrics_host": "::1", "metrics_port": 29000, "otel_endpoint": "http://o:1"}
    assert len(told) == 2
    line = "--policy manual --policy-param inner=round_robin"
    assert settings_of(capsys, line)[0]["policy_param"] == {"inner": "round_robin"}


def test_switches_win_over_the_numbers_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--disable-retries --retry-max-retries 9 --disable-circuit-breaker --cb-failure-threshold 2"
    assert settings_of(capsys, line)[0] == {
        "retries": 0,
        "eject_after_failures": 2**32 - 1,
        "eject_error_rate": 0,
    }


def test_an_interval_for_the_load_of_engines_has_them_asked_and_nobody_else_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flag = "--load-monitor-interval"
    assert settings_of(capsys, f"{flag} 30") == ({"load_poll": "auto", "load_poll_max_s": 30}, [])
    assert settings_of(capsys, "--disable-load-monitoring") == ({"load_poll": "off"}, [])
    for switch in ("--disable-load-monitoring", "--load-poll off"):
        told = f"router: {flag} has no effect: {switch.split()[0]} is there"
        assert settings_of(capsys, f"{flag} 30 {switch}") == ({"load_poll": "off"}, [told])
    chosen, told_all = settings_of(capsys, f"{flag} 30 --load-poll-max-s 3")
    assert chosen == {"load_poll": "auto", "load_poll_max_s": 3}
    assert told_all == [f"router: {flag} sets no interval: --load-poll-max-s is there"]
    assert problems_of(capsys, f"{flag} 0") == [
        f"{flag}: expected seconds, above 0 and at most 86400, got '0'"
    ]


def test_a_time_for_the_whole_request_and_no_circuit_leave_nothing_that_comes_before_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Unless the operator says so by the router's own flags."""
    chosen, _ = settings_of(capsys, "--request-timeout-secs 3600 --first-byte-timeout-s 60")
    assert chosen == {"total_timeout_s": 3600, "first_byte_timeout_s": 60}
    chosen, _ = settings_of(capsys, "--request-timeout-secs 3600 --total-timeout-s 60")
    assert chosen == {"total_timeout_s": 60}, "that it has no effect is told"
    chosen, _ = settings_of(capsys, "--disable-circuit-breaker --eject-error-rate 0.7")
    assert chosen["eject_error_rate"] == 0.7


@pytest.mark.parametrize("none", ["-1", "0", "0.0"])
def test_a_limit_of_nothing_is_no_limit(none: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--max-concurrent-requests", "--rate-limit-tokens-per-second"):
        assert settings_of(capsys, f"{flag} {none}")[0] == {}


@pytest.mark.parametrize(("attempts", "retries"), [("0", 0), ("1", 0), ("2", 1), ("5", 4)])
def test_attempts_in_all_are_one_more_than_retries(
    attempts: str, retries: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings_of(capsys, f"--retry-max-retries {attempts}")[0] == {"retries": retries}


def test_sglang_routers_own_rule_takes_its_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "--policy sglang_cache_aware --cache-threshold 0.5 --balance-abs-threshold 32 "
        "--balance-rel-threshold 1.1 --eviction-interval-secs 30 --max-tree-size 10000"
    )
    chosen, told = settings_of(capsys, line)
    assert told == []
    assert chosen["policy_param"] == {
        "cache_threshold": 0.5,
        "balance_abs_threshold": 32,
        "balance_rel_threshold": 1.1,
        "eviction_interval_s": 30,
        "max_tree_chars": 10000,
    }


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("manual", ("session_sticky", {"inner": "random"})),
        ("sticky_least_loaded", ("session_sticky", None)),
        ("consistent_hashing", ("consistent_hash", None)),
        ("least_load", ("least_prefill_work", None)),
        ("power_of_two", ("power_of_two", None)),
        ("random", ("random", None)),
        ("round_robin", ("round_robin", None)),
        ("cache_aware", ("cache_aware", None)),
        ("prefix_hash", ("prefix_hash", None)),
    ],
)
def test_a_policy_has_the_name_that_it_has_here(
    theirs: str, ours: tuple[str, dict[str, str] | None], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen, told = settings_of(capsys, f"--policy {theirs}")
    assert (chosen["policy"], chosen.get("policy_param")) == ours
    assert bool(told) is (theirs != ours[0]), "another name is told"


def test_prometheus_host_alone_opens_the_peers_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_of(capsys, "--prometheus-host 127.0.0.2")[0] == {
        "metrics_host": "127.0.0.2",
        "metrics_port": 29000,
    }


def test_traces_go_to_the_same_collector_over_http(capsys: pytest.CaptureFixture[str]) -> None:
    for line, url in (
        ("--enable-trace", "http://localhost:4318"),
        ("--enable-trace --otlp-traces-endpoint otel:4318", "http://otel:4318"),
        ("--enable-trace --otlp-traces-endpoint [::1]:4317", "http://[::1]:4318"),
        ("--enable-trace --otlp-traces-endpoint https://otel:4317", "https://otel:4318"),
    ):
        assert settings_of(capsys, line)[0] == {"otel_endpoint": url}
    chosen, told = settings_of(capsys, "--otlp-traces-endpoint otel:4317")
    assert (chosen, len(told)) == ({}, 1), "without --enable-trace it means nothing there either"


def test_an_empty_list_asks_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_of(capsys, "--worker-urls --request-id-headers --cors-allowed-origins")[0] == {}


def test_labels_may_be_one_word_as_in_a_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    chosen, _ = settings_of(capsys, '--service-discovery --selector "app=a role=b"')
    assert chosen == {"discover_kubernetes_selector": ["app=a", "role=b"]}


def test_variables_of_the_peers_are_named_and_have_no_effect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ROUTER_SLL_SESSION_EXPIRATION_IN_S", "60")
    monkeypatch.setenv("SMG_CACHE_TRACE", "1")
    monkeypatch.setenv("REDIS_URL", "redis://other-program:6379")
    chosen, told = settings_of(capsys, "")
    assert chosen == {}
    assert [line.split()[1] for line in told] == [
        "SMG_CACHE_TRACE",
        "VLLM_ROUTER_SLL_SESSION_EXPIRATION_IN_S",
    ]
    assert environment.notes(["PATH", "ROUTER_PORT"]) == []
