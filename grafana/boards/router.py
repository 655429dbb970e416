"""The router's own process: the loop, decisions, memory, and what is bounded."""

from __future__ import annotations

from typing import Final

from boards import frame
from boards.panels import (
    BLUE,
    DARK_BLUE,
    GREEN,
    LIGHT_BLUE,
    RED,
    YELLOW,
    Column,
    Line,
    graph,
    quantiles,
    rows,
    single,
)
from boards.promql import quantile, rate, series, total

_CPU: Final = f"rate({series('process_cpu_seconds_total')}[$__rate_interval])"
_MEMORY: Final = series("process_resident_memory_bytes")
_RETRIED: Final = f"{rate('router_retries_total')} / {rate('router_requests_total')}"


def _mean(histogram: str) -> str:
    return f"{rate(f'{histogram}_sum')} / {rate(f'{histogram}_count')}"


def _or_0(expr: str) -> str:
    """The expression, and 0 where nothing has happened yet."""
    return f"{expr} > 0 or vector(0)"


BOARD: Final = frame.Board(
    name="router",
    title="warmroute / Router",
    description="The routers' own processes: the loop, decisions, memory, and what is bounded.",
    variables=(),
    head=(
        single(
            "Routers up",
            'sum(up{job=~"$job",instance=~"$instance"})',
            "Routers that Prometheus reaches.",
            decimals=0,
            steps=((None, RED), (1, GREEN)),
        ),
        single(
            "Loop lag p99",
            quantile(0.99, "router_loop_lag_seconds"),
            "How late the event loop ran a timer. Every request waits this long at every step: above 25 ms "
            "something blocks the loop or the core is full.",
            unit="s",
            steps=((None, GREEN), (0.01, YELLOW), (0.05, RED)),
        ),
        single(
            "Decision p99",
            quantile(0.99, "router_decision_seconds"),
            "Parsing, identifying and routing a request. Tens of microseconds; a millisecond is odd.",
            unit="s",
            steps=((None, GREEN), (0.001, YELLOW), (0.005, RED)),
        ),
        single(
            "CPU of the busiest",
            f"max({_CPU})",
            "Of one core: a router has one loop. Above 80 % latencies grow; run a further router.",
            unit="percentunit",
            steps=((None, GREEN), (0.6, YELLOW), (0.8, RED)),
        ),
        single("Memory of the largest", f"max({_MEMORY})", "Resident memory.", unit="bytes"),
        single(
            "Held bodies",
            total("router_held_body_bytes"),
            "Large request bodies in memory. At max_buffered_bytes further ones are refused (buffers_full).",
            unit="bytes",
        ),
        single(
            "Retried",
            _RETRIED,
            "Requests given to another worker, over all. Above 5 % a worker is unwell.",
            unit="percentunit",
            steps=((None, GREEN), (0.01, YELLOW), (0.05, RED)),
        ),
        single(
            "Log lines dropped/s",
            rate("router_log_lines_dropped_total"),
            "Lines that came faster than they could be written. 0 is good.",
            unit="ops",
            steps=((None, GREEN), (0.001, RED)),
        ),
    ),
    sections=(
        (
            "Event loop",
            (
                graph(
                    "Loop lag",
                    quantiles("router_loop_lag_seconds", shares=(0.5, 0.99)),
                    "How late the event loop ran a timer. A milliseconds' floor under load is usual; peaks "
                    "are single long callbacks.",
                    unit="s",
                    limit=((None, "transparent"), (0.05, RED)),
                ),
                graph(
                    "Decision time",
                    [
                        Line(quantile(0.5, "router_decision_seconds"), "p50", LIGHT_BLUE),
                        Line(quantile(0.99, "router_decision_seconds"), "p99", DARK_BLUE),
                        Line(_mean("router_decision_seconds"), "mean", BLUE, dashed=True),
                    ],
                    "Parsing, identifying and routing; one request in 16 is timed. It grows with the prompt "
                    "and the number of workers.",
                    unit="s",
                ),
                graph(
                    "CPU",
                    [Line(_CPU, "{{instance}}")],
                    "Share of one core. The loop cannot have more than one.",
                    unit="percentunit",
                    limit=((None, "transparent"), (0.8, RED)),
                ),
            ),
        ),
        (
            "Memory",
            (
                graph(
                    "Memory",
                    [Line(_MEMORY, "{{instance}}")],
                    "Resident memory: the index, sessions, bodies. It levels off when the index is full; "
                    "what grows for ever is a fault, please report it.",
                    unit="bytes",
                ),
                graph(
                    "Index",
                    [
                        Line(total("router_index_bytes", by="instance"), "{{instance}}"),
                        Line(
                            total("router_index_max_bytes", by="instance"),
                            "{{instance}} at most",
                            dashed=True,
                        ),
                    ],
                    "Memory of the prefix index, and index_max_bytes.",
                    unit="bytes",
                ),
                graph(
                    "Held bodies",
                    [Line(total("router_held_body_bytes", by="instance"), "{{instance}}")],
                    "Large request bodies that are being read or may have to be sent again.",
                    unit="bytes",
                ),
            ),
        ),
        (
            "Connections and requests",
            (
                graph(
                    "Client connections",
                    [Line(total("router_client_connections", by="instance"), "{{instance}}")],
                    "Open connections of clients, at most max_connections.",
                ),
                graph(
                    "In flight",
                    [Line(total("router_inflight_requests", by="instance"), "{{instance}}")],
                    "Requests inside each router. Routers that differ much: what stands before them is "
                    "uneven.",
                ),
                graph(
                    "Open files",
                    [
                        Line(total("process_open_fds", by="instance"), "{{instance}}"),
                        Line(total("process_max_fds", by="instance"), "{{instance}} at most", dashed=True),
                    ],
                    "Two for each request in progress, one for each idle connection. At the limit nothing is "
                    "accepted any more.",
                ),
            ),
        ),
        (
            "Exact tokens (where engines tell what they hold)",
            (
                graph(
                    "Prompts whose tokens are known",
                    [Line(rate("router_tokenized_requests_total", by="how"), "{{how}}")],
                    "Before they are routed. onwards: from where an earlier turn ended, which is cheap; "
                    "whole: from the beginning; thread: too long to be done at once; engine: by asking one.",
                    width=8,
                ),
                graph(
                    "Prompts whose tokens are not",
                    [
                        Line(rate("router_untokenized_requests_total", by="reason"), "{{reason}}"),
                        Line(total("router_tokenize_waiting"), "waiting now", dashed=True),
                    ],
                    "They are routed by belief. docs/exact-mode.md has the reasons.",
                    width=8,
                ),
                graph(
                    "Time until tokens are known",
                    [
                        Line(_or_0(quantile(share, "router_tokenize_seconds")), name)
                        for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
                    ],
                    "A part of the time to first token. Above a millisecond prompts wait for a thread.",
                    unit="s",
                    width=8,
                ),
                graph(
                    "Wrong counts",
                    [
                        Line(
                            _or_0(
                                f"{rate('router_token_mismatches_total', by='by')}"
                                f" / {rate('router_token_checks_total', by='by')}"
                            ),
                            "{{by}}",
                        ),
                    ],
                    "Of the prompts that an engine counted too, or the router a second time. 0 is right; "
                    "above that a template or an engine's options are not what the router takes them for.",
                    unit="percentunit",
                    width=12,
                ),
                graph(
                    "Memory of earlier turns",
                    [Line(total("router_tokenizer_memory_bytes"), "kept")],
                    "Where prompts ended, for their next turns. Full at tokenizer_memory_bytes.",
                    unit="bytes",
                    width=12,
                ),
            ),
        ),
        (
            "Room (where limits are set)",
            (
                graph(
                    "Waiting for room",
                    [Line(total("router_queue_requests", by="class"), "{{class}}")],
                    "Requests that wait because all workers that serve them have as many as they may. Short "
                    "peaks are what the queue is for; a queue that never empties is too small a fleet.",
                ),
                graph(
                    "Wait for room",
                    quantiles("router_queue_wait_seconds"),
                    "How long those waited that were served then. It is part of their time to first token.",
                    unit="s",
                ),
                graph(
                    "End of waiting",
                    [Line(rate("router_queue_exits_total", by="how"), "{{how}}")],
                    "served is good. timeout: nobody had room in time. displaced: more urgent ones came. "
                    "left: the client gave up first, so queue_timeout_s is longer than its patience.",
                    unit="reqps",
                ),
                graph(
                    "Let in by class",
                    [Line(rate("router_admitted_requests_total", by="class"), "{{class}}")],
                    "Requests that were let in, at once or later.",
                    unit="reqps",
                    width=6,
                ),
                graph(
                    "Full workers",
                    [Line(total("router_full_workers", by="instance"), "{{instance}}")],
                    "Workers that have as many requests as they may. All of them: requests wait.",
                    width=6,
                ),
                graph(
                    "Prompt tokens by tenant",
                    [Line(rate("router_tenant_admitted_prompt_tokens_total", by="tenant"), "{{tenant}}")],
                    "Estimated prompt tokens per second that were let in. Tenants without a name in the "
                    "settings are together in other.",
                    width=6,
                ),
                graph(
                    "Refused by rate limits",
                    [
                        Line(
                            rate("router_rate_limited_requests_total", by="tenant, limit"),
                            "{{tenant}} {{limit}}",
                        )
                    ],
                    "Requests beyond what a tenant may send per second, by the limit that they met.",
                    unit="reqps",
                    width=6,
                ),
            ),
        ),
        (
            "Uploads and WebSockets",
            (
                graph(
                    "Uploads",
                    [Line(rate("router_uploads_total", by="instance"), "{{instance}}")],
                    "Requests whose body is passed on while it comes: forms with files, audio, images.",
                    unit="reqps",
                ),
                graph(
                    "Upload bytes",
                    [Line(rate("router_upload_bytes_total", by="instance"), "{{instance}}")],
                    "What comes in such bodies, per second.",
                    unit="Bps",
                ),
                graph(
                    "Open WebSockets",
                    [Line(total("router_tunnels", by="instance"), "{{instance}}")],
                    "Each is in flight from its handshake to its end, so a worker that drains waits for it.",
                ),
            ),
        ),
        (
            "Retries, refusals, log",
            (
                graph(
                    "Retries by kind",
                    [Line(rate("router_retries_total", by="kind"), "{{kind}}")],
                    "Requests given to another worker, by what had failed on the one before. They are "
                    "bounded over the whole router by the retry budget.",
                    unit="reqps",
                    width=6,
                ),
                graph(
                    "Refusals by code",
                    [Line(rate("router_refusals_total", by="code"), "{{code}}")],
                    "Requests answered without a worker. docs/operations.md explains each code.",
                    unit="reqps",
                    width=6,
                ),
                graph(
                    "Connections without a request",
                    [Line(rate("router_connection_faults_total", by="fault"), "{{fault}}")],
                    "Closed before they could carry one: no TLS handshake, TLS on a plain port, no head of "
                    "a proxy. docs/network.md.",
                    unit="ops",
                    width=6,
                ),
                graph(
                    "Log lines dropped",
                    [Line(rate("router_log_lines_dropped_total", by="instance"), "{{instance}}")],
                    "Whoever reads the log is too slow: the router drops lines and never waits.",
                    unit="ops",
                    width=6,
                ),
            ),
        ),
        (
            "Second chances",
            (
                graph(
                    "Hedges by result",
                    [
                        Line(rate("router_hedges_total", by="result"), "{{result}}"),
                        Line(rate("router_hedges_started_total"), "started", dashed=True),
                        Line(rate("router_hedges_refused_total", by="reason"), "no: {{reason}}", dashed=True),
                    ],
                    "Streams sent to a second worker because their first byte was late (hedge_after_p). Many "
                    "won: some worker is slow. Many lost: the share is too low. Refused by the budget: the "
                    "whole fleet is slow, and hedges would not help.",
                    unit="reqps",
                ),
                graph(
                    "Retry budget",
                    [
                        Line(total("router_retry_budget", by="instance"), "{{instance}} retries left"),
                        Line(rate("router_retries_refused_total"), "refused/s", dashed=True),
                    ],
                    "Retries that each router may make now. At 0 failures reach clients as they are: several "
                    "workers fail, and asking the others for all of it would break them too.",
                ),
                graph(
                    "Panic",
                    [Line(total("router_panicking_models", by="instance"), "{{instance}}")],
                    "Models so few of whose workers are healthy that all of them get requests "
                    "(panic_threshold).",
                ),
            ),
        ),
        (
            "Discovery and traces",
            (
                graph(
                    "Workers found",
                    [Line(total("router_discovery_workers", by="kind, target"), "{{kind}} {{target}}")],
                    "Workers that each source names and that are not leaving, summed over routers. Empty "
                    "where nothing is discovered.",
                ),
                graph(
                    "Discovery failures",
                    [Line(rate("router_discovery_failures_total", by="kind, target"), "{{kind}} {{target}}")],
                    "Times that a source could not be asked or was not understood. Its workers stay "
                    "meanwhile.",
                    unit="ops",
                ),
                graph(
                    "Spans dropped",
                    [Line(rate("router_trace_spans_dropped_total", by="instance"), "{{instance}}")],
                    "Spans that did not reach the collector. Requests do not wait for it.",
                    unit="ops",
                ),
            ),
        ),
        (
            "Configuration",
            (
                graph(
                    "Reloads",
                    [Line(rate("router_reloads_total", by="outcome"), "{{outcome}}")],
                    "Times that the configuration was read again. Refused: it is wrong, the former one "
                    "stays, and the log says why.",
                    unit="ops",
                    width=12,
                ),
                graph(
                    "Policy changes",
                    [Line(rate("router_policy_changes_total", by="instance"), "{{instance}}")],
                    "Times that another policy took over, by POST /policy or a reload. docs/admin-api.md.",
                    unit="ops",
                    width=12,
                ),
            ),
        ),
        (
            "Process",
            (
                rows(
                    "Version",
                    "instance",
                    [Column("up", f"max by (instance, version, policy, compiled) ({series('router_info')})")],
                    "Which version runs where, with which policy, and whether its hot modules are compiled. "
                    "Not compiled: a third of the speed; there was no C compiler.",
                    width=12,
                ),
                graph(
                    "Uptime",
                    [
                        Line(
                            f"time() - {total('process_start_time_seconds', by='instance')}",
                            "{{instance}}",
                        )
                    ],
                    "A saw tooth is a crash loop. After a restart the router believes that all caches are "
                    "empty.",
                    unit="s",
                    width=12,
                ),
            ),
        ),
    ),
)
