"""How true the simulated engine is: against a real vLLM run, and against measured H100 and H200 points.

    .venv/bin/python bench/fidelity.py [--quick] [--json FILE] [--calibration FOLDER]

Two tables.

    run      300 requests of ShareGPT on vLLM 0.19, Llama-3.1-8B, one RTX 4090 whose KV cache is full from
             second 5 on. `simulator fit` sees the first half by arrival (start: the H100 preset); the second
             half is simulated and compared. *Error of the mean*: mean of the simulated over mean of the
             measured, minus 1; throughput: output tokens of the second half over the time from its first
             arrival to its last token. *Of a request*: mean of |simulated/measured − 1|. TTFT counts from the
             moment at which the engine queued a request. Bars, for the means: 5 % for TPOT and E2E, 10 % for
             TTFT, 2 % for throughput.
    silicon  time per output token at a steady number of clients, for models and GPUs that have a preset.
             Nothing is fitted to these rows. Bar: the median over a group's rows of |simulated/measured − 1|
             is at most 10 %.

How to read the second. What the clients did is not recorded: whether all answers were equally long, so that
they stayed in lockstep, and how many requests were counted, of which the first of all clients come at once.
Lengths that are equal or vary by a tenth, and five or ten requests for each client, are simulated; of these
four the one is taken whose TTFTs are nearest to the measured ones, and TPOT is the test. vLLM 0.12 schedules
between steps and not beside them: what its host takes for a sequence and step is estimated from the same
model and engine at tensor parallelism 4 and 8, where it is the same and no preset exists. Groups without a
verdict, whose weights are FP8 where the preset's are bf16, are there for information.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from heapq import heapify, heappop, heappush
from math import log
from pathlib import Path
from random import Random
from statistics import fmean, median

import msgspec

from warmroute_simulator.engine import (
    EngineConfig,
    EngineKind,
    EngineRequest,
    Finished,
    FirstToken,
    make_engine,
)
from warmroute_simulator.engine.config import DEFAULT_MAX_NUM_SEQS
from warmroute_simulator.engine.presets import load_preset
from warmroute_simulator.fitting.agreement import Compared, agreement
from warmroute_simulator.fitting.replay import Replay
from warmroute_simulator.fitting.rows import read_rows
from warmroute_simulator.fitting.search import fit

ROOT = Path(__file__).parents[1]

RUN = "vllm_rtx4090_llama31_8b"
RUN_KV_TOKENS, RUN_STEP_TOKENS = 41_408, 2048
"""From the engine's log: 2,588 blocks of 16, `--max-num-batched-tokens 2048`."""
RUN_BARS = {"ttft_s": 0.10, "tpot_s": 0.05, "e2e_s": 0.05, "output_tokens_per_s": 0.02}

SILICON_BAR = 0.10
SPREADS = {"equal": 0.0, "varied": 0.1}
REQUESTS_PER_CLIENT = (5, 10)
"""What the usual load generators are told."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measured row: so many clients, each with one request after the other."""

    clients: int
    prompt_tokens: int
    output_tokens: int
    ttft_s: float
    tpot_s: float


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one model, GPU and engine, and the preset that stands for them."""

    name: str
    model: str
    gpu: str
    tp: int
    backend: str
    precision: str
    preset: str
    kind: EngineKind = "vllm"
    overlap: bool = True
    verdict: bool = True
    note: str = ""


FP8 = "FP8 weights, preset bf16"
CACHED = "no verdict: faster than the GPU's peak, prompts were cached"
GROUPS = (
    Group("Qwen3-32B, H100 TP2, vLLM 0.12", "Qwen/Qwen3-32B", "h100_sxm", 2,
          "vllm", "", "qwen3-32b-h100-tp2", overlap=False),
    Group("Qwen3-32B, H100 TP2, SGLang 0.5.1", "Qwen/Qwen3-32B", "h100_sxm", 2,
          "sglang", "", "qwen3-32b-h100-tp2", "sglang"),
    Group("Llama-3.1-8B, H100, TensorRT-LLM 1.0", "meta-llama/Llama-3.1-8B-Instruct", "h100_sxm", 1,
          "trtllm", "", "llama-3.1-8b-h100"),
    Group("Llama-3.1-8B, H200, SGLang 0.5.6", "meta-llama/Llama-3.1-8B-Instruct", "h200_sxm", 1,
          "sglang", "fp8", "llama-3.1-8b-h200", "sglang", note=FP8),
    Group("Llama-3.1-70B, H100 TP4, vLLM", "meta-llama/Llama-3.1-70B", "h100_sxm", 4,
          "vllm", "fp8", "llama-3.1-70b-h100-tp4", verdict=False, note=FP8),
    Group("Llama-3.1-70B, H100 TP8, vLLM", "meta-llama/Llama-3.1-70B", "h100_sxm", 8,
          "vllm", "fp8", "llama-3.1-70b-h100-tp8", verdict=False, note=FP8),
    Group("Llama-3.1-70B, H200 TP4, vLLM", "meta-llama/Llama-3.1-70B", "h200_sxm", 4,
          "vllm", "fp8", "llama-3.1-70b-h200-tp4", verdict=False, note=FP8),
    Group("Llama-3.1-8B, H200, vLLM 0.12", "nvidia/Llama-3.1-8B-Instruct-FP8", "h200_sxm", 1,
          "vllm", "fp8", "llama-3.1-8b-h200", overlap=False, verdict=False, note=CACHED),
)  # fmt: skip
"""Of the last one: 112 clients with prompts of 1,000 tokens get 100 tokens each in 1.19 s. Weights and KV
cache are read in 0.49 s of these at the memory's peak; 112,000 tokens of prefill in the rest are 2.6 PFLOP/s,
and the GPU's FP8 peak is 2.0."""


def measure(calibration: Path, quick: bool) -> dict[str, object]:
    """Prints both tables; the figures."""
    figures: dict[str, object] = {}
    if not calibration.is_dir():
        print(f"left out: no calibration data at {calibration}")
        return figures
    figures["run"] = real_run(calibration / RUN)
    print()
    figures["silicon"] = silicon(calibration / "silicon_h100_h200.csv", quick=quick)
    return figures


# The real run.


def real_run(folder: Path) -> dict[str, object]:
    """Prints the first table; its figures."""
    measurement = read_rows(folder / "requests.jsonl", folder / "workload.jsonl")
    requests = measurement.requests
    half = len(requests) // 2
    start = load_preset("llama-3.1-8b-h100").engine(kv_tokens=RUN_KV_TOKENS, step_tokens=RUN_STEP_TOKENS)
    found = fit(measurement.overlapping(half), half, start)
    simulated = Replay(requests, start.block_tokens).run(found.config)
    told = agreement(requests, simulated, range(half, len(requests)))
    print(f"vLLM 0.19, RTX 4090: fitted to the first {half} requests, compared on the other {told.requests}")
    print(f"{'':<24}{'measured':>12}{'simulated':>12}{'error of mean':>15}{'of a request':>14}{'bar':>8}")
    figures: dict[str, object] = {
        "latency": found.config.latency.__repr__(),
        "simulations": found.simulations,
    }
    for name, label, factor in (
        ("ttft_s", "TTFT (s)", 1.0),
        ("tpot_s", "TPOT (ms)", 1000.0),
        ("e2e_s", "E2E (s)", 1.0),
        ("output_tokens_per_s", "output tokens per s", 1.0),
    ):
        compared: Compared | None = getattr(told, name)
        assert compared is not None
        held = abs(compared.error) <= RUN_BARS[name]
        single = "" if compared.request_error is None else f"{compared.request_error:.1%}"
        print(
            f"{label:<24}"
            f"{compared.measured * factor:>12.2f}{compared.simulated * factor:>12.2f}{compared.error:>+15.2%}"
            f"{single:>14}{RUN_BARS[name]:>8.0%}  {'held' if held else 'MISSED'}"
        )
        figures[name] = asdict(compared) | {"bar": RUN_BARS[name], "held": held}
    return figures


# Silicon.


def silicon(path: Path, *, quick: bool) -> dict[str, object]:
    """Prints the second table; its figures."""
    rows = [row for row in _rows(path) if row["mode"] == "agg"]
    host_ms = host_ms_per_sequence(rows)
    print("time per output token at a steady number of clients")
    print(f"vLLM 0.12's host: {host_ms * 1000:.0f} µs per sequence and step (Qwen3-32B at TP 4 and 8)")
    print(f"{'':<38}{'rows':>5}  {'clients':<14}{'TTFT':>6}{'TPOT':>8}{'|TPOT|':>8}{'bar':>6}")
    figures: dict[str, object] = {"host_us_per_sequence": round(host_ms * 1000, 1)}
    for group in GROUPS:
        points = _points(rows, group)
        config = _engine(group, host_ms, max(point.clients for point in points))
        kinds = {
            f"{name} ×{count}": [closed_loop(config, point, spread, count) for point in points]
            for name, spread in SPREADS.items()
            for count in REQUESTS_PER_CLIENT[: 1 if quick else None]
        }
        kind = min(kinds, key=lambda kind: _ttft_distance(points, kinds[kind]))
        pairs = list(zip(points, kinds[kind], strict=True))
        ttft = median(simulated[0] / point.ttft_s for point, simulated in pairs)
        errors = [simulated[1] / point.tpot_s - 1 for point, simulated in pairs]
        off = median(abs(error) for error in errors)
        held = off <= SILICON_BAR if group.verdict else None
        verdict = "" if held is None else "held" if held else "MISSED"
        print(
            f"{group.name:<38}{len(points):>5}  {kind:<14}{'×' + format(ttft, '.2f'):>6}"
            f"{median(errors):>+8.1%}{off:>8.1%}{f'{SILICON_BAR:.0%}' if group.verdict else '':>6}"
            f"  {verdict:<7}{group.note}".rstrip()
        )
        figures[group.name] = {
            "rows": len(points), "clients": kind, "ttft_ratio": ttft, "tpot_error": median(errors),
            "tpot_absolute_error": off, "held": held, "note": group.note,
        }  # fmt: skip
    return figures


def _engine(group: Group, host_ms: float, clients: int) -> EngineConfig:
    preset = load_preset(group.preset)
    latency = preset.latency
    if group.backend == "vllm" and not group.overlap:
        latency = msgspec.structs.replace(latency, d1=latency.d1 + host_ms)
    limit = max(DEFAULT_MAX_NUM_SEQS, clients)
    return preset.engine(latency=latency, kind=group.kind, overlap=group.overlap, max_num_seqs=limit)


def closed_loop(config: EngineConfig, point: Point, spread: float, count: int) -> tuple[float, float]:
    """Mean TTFT and mean time per output token of clients that start together, `count` requests for each."""
    engine, chance = make_engine(config), Random(0)
    total = point.clients * count
    lengths = [
        (_vary(point.prompt_tokens, spread, chance), max(2, _vary(point.output_tokens, spread, chance)))
        for _ in range(total)
    ]
    comes = [(0.0, client) for client in range(point.clients)]
    heapify(comes)
    arrived: list[float] = []
    first: dict[int, float] = {}
    ttft: list[float] = []
    tpot: list[float] = []
    while comes or engine.next_event_at() is not None:
        at = engine.next_event_at()
        if comes and len(arrived) < total and (at is None or comes[0][0] <= at):
            now, _ = heappop(comes)
            events = engine.advance(now)
            number = len(arrived)
            arrived.append(now)
            engine.submit(EngineRequest(number, *lengths[number], []), now)
        elif at is None:
            break
        else:
            events = engine.advance(at)
        for event in events:
            number = event.request_id
            if isinstance(event, FirstToken):
                first[number] = event.at
                ttft.append(event.at - arrived[number])
            elif isinstance(event, Finished):
                tpot.append((event.at - first[number]) / (lengths[number][1] - 1))
                heappush(comes, (event.at, number))
    return fmean(ttft), fmean(tpot)


def host_ms_per_sequence(rows: Sequence[dict[str, str]]) -> float:
    """What vLLM 0.12's host takes per sequence and step, in ms: Qwen3-32B at TP 4 and 8.

    TPOT = base + s·B + d2·C + e·(others' prefill); what KV cache reads take halves with every doubling of TP,
    and s is solved for. The part of s that is the GPU's is the preset's d1.
    """
    import numpy as np

    preset = load_preset("qwen3-32b-h100-tp2")
    latency, found = preset.latency, []
    for tp in (4, 8):
        group = Group("", "Qwen/Qwen3-32B", "h100_sxm", tp, "vllm", "", "")
        columns, rests, weights = [], [], []
        for point in _points(rows, group):
            context = point.clients * (point.prompt_tokens + point.output_tokens / 2)
            # A full KV cache is another regime.
            if point.clients * (point.prompt_tokens + point.output_tokens) > 0.9 * preset.kv_tokens * tp / 2:
                continue
            prompt = point.prompt_tokens
            prefill_ms = latency.c1 * prompt / 1e3 + latency.c2 * prompt * prompt / 2e6
            tpot_ms = point.tpot_s * 1000
            columns.append([1.0, point.clients, (point.clients - 1) * prefill_ms / point.output_tokens])
            rests.append(tpot_ms - latency.d2 * 2 / tp * context / 1000)
            weights.append(1 / tpot_ms)
        weight = np.array(weights)
        solution, *_ = np.linalg.lstsq(
            np.array(columns) * weight[:, None], np.array(rests) * weight, rcond=None
        )
        found.append(float(solution[1]))
    return fmean(found) - latency.d1


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _points(rows: Sequence[dict[str, str]], group: Group) -> list[Point]:
    points = []
    for row in rows:
        key = (row["model_path"], row["system"], int(row["tp_size"]), row["backend"], row["precision"])
        if key != (group.model, group.gpu, group.tp, group.backend, group.precision):
            continue
        clients = re.search(r"silicon_concurrency=(\d+)", row["silicon_data_source"])
        points.append(
            Point(
                int(clients[1] if clients else row["batch_size"]),
                int(row["isl"]),
                int(row["osl"]),
                float(row["silicon_ttft_ms"]) / 1000,
                float(row["silicon_tpot_ms"]) / 1000,
            )
        )
    return sorted(points, key=lambda point: (point.prompt_tokens, point.output_tokens, point.clients))


def _ttft_distance(points: Sequence[Point], simulated: Sequence[tuple[float, float]]) -> float:
    return median(abs(log(told[0] / point.ttft_s)) for point, told in zip(points, simulated, strict=True))


def _vary(tokens: int, spread: float, chance: Random) -> int:
    return max(1, round(tokens * (1 + spread * chance.uniform(-1, 1))))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="clients with five requests only")
    parser.add_argument("--calibration", type=Path, default=ROOT / "../shared/calibration", metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    figures = measure(options.calibration, options.quick)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
