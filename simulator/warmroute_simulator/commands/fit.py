"""`simulator fit`: latency coefficients and host overhead from what was measured."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from warmroute_policies.latency import DEFAULT_PRESET

if TYPE_CHECKING:
    from warmroute_simulator.commands.fit_result import FitResult
    from warmroute_simulator.engine import EngineConfig
    from warmroute_simulator.engine.presets import Preset
    from warmroute_simulator.fitting.agreement import Agreement
    from warmroute_simulator.fitting.measured import Measurement

HELP: Final = "latency coefficients from what was measured"
FORMATS: Final = ("auto", "rows", "journal", "metrics")
NOT_NEAR: Final = 0.2
"""An error of a mean that no coefficients explain: something else differs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("data", type=Path, metavar="DATA",
        help="requests as they went: CSV, JSON lines, a router's journal; or a metrics page")  # fmt: skip
    add("--format", choices=FORMATS, default="auto", help="auto looks at the first line")
    add("--start-preset", default=DEFAULT_PRESET, metavar="NAME",
        help="where the search starts, and what stays where the data says nothing")  # fmt: skip
    add("--fit", default="all", metavar="WHAT",
        help="all; scales: two speeds; overheads: host time alone; or names such as c1,d2")  # fmt: skip
    add("--hold-back", type=float, default=0.5, metavar="SHARE",
        help="the later share of the requests is not fitted to, but predicted")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write the preset there; --preset FILE takes it everywhere")
    add("--json", type=Path, metavar="FILE", help="write preset and errors there")
    add("--quiet", action="store_true", help="no table on the terminal")
    engine = parser.add_argument_group("the engine that was measured").add_argument
    engine("--engine", choices=("vllm", "sglang"), help="whose scheduler (default: the preset's)")
    engine("--kv-tokens", type=int, metavar="N",
        help="KV cache capacity, from the engine's log (default: the preset's)")  # fmt: skip
    engine("--block-tokens", type=int, metavar="N", help="tokens of one KV block (default: the preset's)")
    engine("--max-num-seqs", type=int, metavar="N", help="sequences that run at once (default: the preset's)")
    engine("--max-num-batched-tokens", type=int, metavar="N",
        help="tokens that one step may compute (default: the preset's)")  # fmt: skip
    engine(
        "--no-overlap", action="store_true", help="the host decides on a step when the one before has ended"
    )
    engine("--model", metavar="NAME", help="model name for the preset (default: the start preset's)")
    more = parser.add_argument_group("more about the data").add_argument
    more("--prompts", type=Path, metavar="FILE",
        help="JSON lines with request_id and block_ids: which prompts begin alike")  # fmt: skip
    more("--before", type=Path, metavar="FILE", help="the metrics page at the beginning (default: all since "
        "the engine's start)")  # fmt: skip
    more("--seconds", type=float, metavar="S", help="how long the metrics were counted")


def run(arguments: argparse.Namespace) -> int:
    """Exit code. Raises ValueError with a message for the user."""
    from warmroute_simulator.engine.presets import load_preset, save_preset

    if not 0 <= arguments.hold_back < 1:
        raise ValueError(f"--hold-back must be 0 or more and less than 1, not {arguments.hold_back}")
    start = load_preset(arguments.start_preset)
    form = _format(arguments)
    fitted = _from_metrics(arguments, start) if form == "metrics" else _from_rows(arguments, start, form)
    if arguments.out is not None:
        save_preset(fitted.preset, arguments.out)
    if arguments.json is not None:
        arguments.json.write_bytes(fitted.json())
    if not arguments.quiet:
        fitted.show()
    return 0


def _format(arguments: argparse.Namespace) -> str:
    form: str = arguments.format
    if form != "auto":
        return form
    from warmroute_simulator.traces.files import TraceError, numbered_lines

    for _, line in numbered_lines(arguments.data):
        start = line.lstrip()
        if start.startswith((b"# ", b"vllm:", b"sglang:")):
            return "metrics"
        # Every line of a journal is an event with a kind, `e`.
        return "journal" if start.startswith(b"{") and b'"e":' in start else "rows"
    raise TraceError(arguments.data.name, 0, None, "measurements", "an empty file")


def _from_rows(arguments: argparse.Namespace, start: Preset, form: str) -> FitResult:
    from warmroute_simulator.fitting.agreement import agreement
    from warmroute_simulator.fitting.journals import read_journal
    from warmroute_simulator.fitting.parameters import named
    from warmroute_simulator.fitting.replay import Replay
    from warmroute_simulator.fitting.rows import read_rows
    from warmroute_simulator.fitting.search import MOST_REQUESTS, fit, most_simulations
    from warmroute_simulator.report.progress import Progress

    if form == "journal":
        measurement = read_journal(arguments.data)
    else:
        measurement = read_rows(arguments.data, arguments.prompts)
    requests, notes = measurement.requests, list(measurement.notes)
    parameters = named(arguments.fit)
    config = _engine(arguments, start, None)
    seen = len(requests) - int(len(requests) * arguments.hold_back)
    used = min(seen, MOST_REQUESTS)
    notes += _remarks(measurement, used, seen)
    with Progress(most_simulations(parameters), "simulations") as progress:
        found = fit(measurement.overlapping(used), used, config, parameters, lambda: progress.advance(1))
    simulated = Replay(requests, config.block_tokens).run(found.config)
    parts: dict[str, Agreement | None] = {
        "fitted": agreement(requests, simulated, range(used)),
        "held_back": agreement(requests, simulated, range(seen, len(requests)))
        if seen < len(requests)
        else None,
    }
    source = {
        "source": measurement.source, "requests": len(requests), "fitted_requests": used,
        "held_back_requests": len(requests) - seen,
    }  # fmt: skip
    return _result(arguments, start, found.config, source, parts, notes, found.simulations)


def _from_metrics(arguments: argparse.Namespace, start: Preset) -> FitResult:
    from warmroute_simulator.fitting.counters import fit_counters, read_counters
    from warmroute_simulator.fitting.parameters import SCALES
    from warmroute_simulator.fitting.search import most_simulations
    from warmroute_simulator.report.progress import Progress

    if arguments.seconds is None or not arguments.seconds > 0:
        raise ValueError("metrics do not tell for how long they counted: --seconds must")
    if arguments.fit not in ("all", "scales"):
        raise ValueError(f"metrics tell two speeds and the host time of a request, not --fit {arguments.fit}")
    counted = read_counters(arguments.data, arguments.before)
    config = _engine(arguments, start, counted.kv_tokens)
    with Progress(most_simulations(SCALES), "simulations") as progress:
        found, told = fit_counters(counted, arguments.seconds, config, lambda: progress.advance(1))
    coarse = (
        "coarse: the means of a metrics page tell two speeds and the host time of a request; the other "
        f"proportions are those of {start.name}, and nothing is held back"
    )
    source = {"source": counted.source, "requests": round(counted.requests), "engines": counted.engines}
    return _result(
        arguments,
        start,
        found.config,
        source,
        {"fitted": told, "held_back": None},
        [coarse],
        found.simulations,
    )


def _engine(arguments: argparse.Namespace, start: Preset, kv_tokens: int | None) -> EngineConfig:
    changes: dict[str, object] = {
        "kind": arguments.engine,
        "kv_tokens": arguments.kv_tokens or kv_tokens,
        "block_tokens": arguments.block_tokens,
        "max_num_seqs": arguments.max_num_seqs,
        "step_tokens": arguments.max_num_batched_tokens,
        "overlap": False if arguments.no_overlap else None,
    }
    return start.engine(**{name: value for name, value in changes.items() if value is not None})


def _remarks(measurement: Measurement, used: int, seen: int) -> list[str]:
    notes = []
    if used < seen:
        notes.append(f"fitted to the first {used} of {seen} requests")
    if not measurement.first_tokens_seen:
        notes.append("no first token was seen: prefill is told from decoding by lengths alone")
    if not measurement.knows_blocks and not measurement.knows_hits:
        notes.append("nothing is known of cache hits: every prompt is taken to be new")
    return notes


def _result(
    arguments: argparse.Namespace,
    start: Preset,
    config: EngineConfig,
    source: dict[str, object],
    parts: dict[str, Agreement | None],
    notes: list[str],
    simulations: int,
) -> FitResult:
    from warmroute_simulator.commands.fit_result import FitResult, errors_of
    from warmroute_simulator.engine.presets import Preset

    told = parts["fitted"]
    means = [] if told is None else [told.ttft_s, told.tpot_s, told.e2e_s]
    if any(compared is not None and abs(compared.error) > NOT_NEAR for compared in means):
        notes.append(
            "no coefficients come near: are --kv-tokens, --max-num-seqs, --max-num-batched-tokens and "
            "--engine what the engine had? A wrong KV capacity looks like slowness"
        )
    name = arguments.data.name.split(".")[0] if arguments.out is None else arguments.out.stem
    errors: dict[str, Any] = {part: errors_of(told) for part, told in parts.items() if told is not None}
    preset = Preset(
        name=name,
        model=arguments.model or start.model,
        kind=config.kind,
        latency=config.latency,
        kv_tokens=config.kv_tokens,
        max_model_len=start.max_model_len,
        block_tokens=config.block_tokens,
        max_num_seqs=config.max_num_seqs,
        step_tokens=config.step_tokens,
        prefill_tokens=config.prefill_tokens,
        overlap=config.overlap,
        step_overhead_s=config.step_overhead_s,
        request_overhead_s=config.request_overhead_s,
        provenance={**source, "start_preset": start.name, "adjusted": arguments.fit, "errors": errors},
    )
    return FitResult(preset, parts, notes, simulations)
