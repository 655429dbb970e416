"""Writes the generated pages of docs/, or with --check says which of them are stale (exit code 1).

A page is a function that returns its text; `PAGES` maps file names to them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from warmroute.app import build
from warmroute.config import peers
from warmroute.config.flags import GROUPS, default_text
from warmroute.config.settings import FIELDS, Settings, flag_of, group_of, is_list, kind_of, variable_of
from warmroute.metrics import RouterCollector
from warmroute_policies.latency import PRESETS

DOCS: Final = Path(__file__).parent

CONFIGURATION: Final = """\
# Configuration

<!-- Written by docs/generate.py from warmroute.config.Settings; `make docs` writes it again. -->

A setting has one name everywhere: `idle_timeout_s` in a file is `--idle-timeout-s` on the command line and
`ROUTER_IDLE_TIMEOUT_S` in the environment. Flags win over the environment, the environment over the file, the
file over the defaults; a list from a higher source replaces the lower one. `router config` prints every value
and where it came from (`--json FILE` for programs; keys are masked).

The file is named by `--config FILE` or `ROUTER_CONFIG` and is YAML (`.yaml`, `.yml`), TOML (`.toml`) or JSON
(`.json`):

```yaml
host: 0.0.0.0
backend:
  - http://gpu1:8000
  - {url: http://gpu2:8000, weight: 2, model: [llama-3.1-8b], preset: llama-3.1-8b-h200}
policy: cache_aware
policy_param: {miss_price: 2.5}
```

The same backends as flags: `--backend http://gpu1:8000
http://gpu2:8000,weight=2,model=llama-3.1-8b,preset=llama-3.1-8b-h200`. A list in the environment is words:
`ROUTER_BACKEND="http://gpu1:8000 http://gpu2:8000"`; an empty variable counts as not set. Sizes are bytes or
carry a unit (`64KiB`, `1GiB`). An unknown key, flag or `ROUTER_` variable is an error that names the nearest
known one, with exit code 2.
"""

CONFIGURATION_END: Final = """
Flags of sglang-router, vllm-router and smg are accepted as well, where they mean the same:
[drop-in.md](drop-in.md).
"""


def configuration() -> str:
    """docs/configuration.md."""
    parts = [CONFIGURATION]
    for group, text in GROUPS.items():
        parts.append(f"\n## {group.capitalize()}\n\n{text}\n\n")
        parts.append("| name | flag and variable | takes | default | meaning |\n|---|---|---|---|---|\n")
        for name, field in FIELDS.items():
            if group_of(field) != group:
                continue
            more = " (repeatable)" if is_list(field) else ""
            row = (
                f"`{name}`",
                f"`{flag_of(name)}`{more}<br>`{variable_of(name)}`",
                kind_of(field).expects,
                default_text(field),
                field.description or "",
            )
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n")
    parts.append("\nLatency presets: " + ", ".join(f"`{name}`" for name in PRESETS) + ".\n")
    parts.append(CONFIGURATION_END)
    return "".join(parts)


METRICS: Final = """\
# Metrics

<!-- Written by docs/generate.py from warmroute.metrics.RouterCollector; `make docs` writes it again. -->

`GET /metrics` on the router's port needs no key. It answers in Prometheus' text format, and in OpenMetrics
to those who ask for it. All times are seconds. Labels are bounded: `worker` is a worker's URL and goes when
the worker goes; `model` is a name that some worker declares, and beyond a hundred names `other`. Counters
begin at zero when the router starts.

What share of the prompt tokens was cached, as engines report it:

```
sum(rate(router_actual_hit_tokens_total[5m])) / sum(rate(router_prompt_tokens_total[5m]))
```

- What could have been cached, had every request gone to its best holder: the same with
  `router_reusable_tokens_total`. As believed: engines may hold more, and the actual hit rate may be above it.
- How good the prediction is: `router_predicted_hit_tokens_total` over
  `router_actual_hit_tokens_total`, by worker.
- Which worker is behind: `router_worker_queued_prefill_seconds`.

Reported hits are only as complete as the engines' reports (`router_usage_reports_total` of all requests):
vLLM needs `--enable-prompt-tokens-details`, SGLang `--enable-cache-report`, and a streamed answer tells only
when its client asked for the usage.

| name | type | labels | meaning |
|---|---|---|---|
"""

METRICS_END: Final = """
`process_*`, `python_info` and `python_gc_*` are those of prometheus-client.
"""


def metrics() -> str:
    """docs/metrics.md."""
    rows = []
    for family in RouterCollector(build(Settings())).collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{name}` | {family.type} | {labels or '-'} | {family.documentation} |\n")
    return METRICS + "".join(rows) + METRICS_END


DROP_IN: Final = """\
# In place of sglang-router, vllm-router or smg

<!-- Written by docs/generate.py from warmroute.config.peers; `make docs` writes it again. -->

Keep the launch script and change the program's name:

| instead of | write |
|---|---|
| `sglang-router launch …`, `smg launch …` | `router launch …` |
| `python -m sglang_router.launch_router …` | `python -m warmroute launch …` |
| `vllm-router …`, `python -m vllm_router.launch_router …` | `router …` |

Then every flag does one of four things, and none is passed over in silence:

- it **sets** the setting that means the same, in its unit;
- it has **no effect**: it tunes a rule that has no counterpart here, and a line on stderr says so;
- it is **refused**: it asks for something that would be missed. The router does not start, exits with code 2
  and says in one line what to use instead. A refused flag that is given its own default asks for nothing and
  passes;
- it is the router's **own** flag of that name.

`router config` with the same flags shows what came of them and starts nothing:

```
router config --worker-urls http://gpu1:8000 http://gpu2:8000 --retry-max-retries 3 --prometheus-port 29000
```

A flag may be abbreviated as far as only one of a peer's flags begins so (`--ca-cert-path`). A list that is
given twice adds up, as in smg; sglang-router and vllm-router take the last, so a line says it. A flag of the
router wins over a peer's flag for the same setting, which is said too.

What nobody says is the router's own default, not the peer's: the tables have both. Two of them
would be missed at once, so `router launch` takes sglang-router's: it listens on {host}, and serves
`/metrics` on port {metrics_port} as well. vllm-router listens on 127.0.0.1, as `router` does.

Policies of other names: {policies}.
{no_policy}

`cache_aware` is the default of all four, but not the same rule: [architecture.md](architecture.md) has ours.
`--policy sglang_cache_aware` is sglang-router's, thresholds included.

Environment: the peers' launchers read variables for the storage of answers alone, and vllm-router and smg
some for tokenizers, images and debugging (`VLLM_ROUTER_*`, `SMG_*`). None has an effect here, and a line says
so for the latter; for `RUST_LOG` use `--log-level`. Ours are `ROUTER_*`
([configuration.md](configuration.md)).

What the peers' own test suites expect of a router, and which of our tests shows it:
[peers-behaviours.md](peers-behaviours.md).
"""

_NO_EFFECT: Final = "no effect"


def _here(flag: str) -> str:
    """What a peer's flag is in the router."""
    answer = peers.ANSWERS[flag]
    if answer.kind is peers.Kind.REFUSED:
        return "refused"
    if answer.kind is peers.Kind.WITHOUT_EFFECT:
        return _NO_EFFECT
    if answer.kind is peers.Kind.SAME:
        return f"`{flag}`"
    if answer.target not in FIELDS:
        return _NO_EFFECT
    target = flag_of(answer.target)
    value = answer.value([]) if answer.kind is peers.Kind.SETS and peers.values_of(flag) == "0" else None
    if value is False:
        target = "--no-" + target.removeprefix("--")
    elif value is not None and value is not True:
        target = f"{target} {value}"
    return f"`{target}`"


def _default_here(flag: str) -> str:
    answer = peers.ANSWERS[flag]
    if answer.kind is peers.Kind.SAME:
        return default_text(FIELDS[flag.removeprefix("--").replace("-", "_")])
    if answer.kind is peers.Kind.SETS and peers.values_of(flag) != "0":
        return default_text(FIELDS[answer.target])
    return "-"


def drop_in() -> str:
    """docs/drop-in.md."""
    alike = (f"`{name}` is `{' '.join((it.name, *it.params))}`" for name, it in peers.POLICIES.items())
    without = (f"`{name}` is refused: {why}." for name, why in peers.NO_POLICY.items())
    parts = [DROP_IN.format(policies=", ".join(alike), no_policy=" ".join(without), **peers.LAUNCH)]
    seen: set[str] = set()
    for peer in peers.PEERS:
        first = not seen
        parts.append(f"\n## {peer.name} {peer.version}\n\n")
        if not first:
            parts.append("Only what it has beside the tables above, or with another default.\n\n")
        parts.append("| flag | default there | here | default here | note |\n|---|---|---|---|---|\n")
        for flag, spelling in peer.flags.items():
            defaults = {it.flags[flag].default for it in peers.PEERS if it.name in seen and flag in it.flags}
            if spelling.default in defaults:
                continue
            row = (
                f"`{flag}`",
                spelling.default or "-",
                _here(flag),
                _default_here(flag),
                peers.ANSWERS[flag].text or "-",
            )
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n")
        seen.add(peer.name)
    return "".join(parts)


PAGES: Final[dict[str, Callable[[], str]]] = {
    "configuration.md": configuration,
    "drop-in.md": drop_in,
    "metrics.md": metrics,
}


def main() -> int:
    """Writes or checks all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when a page is stale")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(name)
        elif not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
