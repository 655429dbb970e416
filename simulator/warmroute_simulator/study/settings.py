"""What a run was, beside its policy and seed, and what a reader of its numbers should be told of it.

Two reports with equal settings are of equal runs. What has its default is left out, but for what every
result hangs on: the fleet, its KV cache, the pace.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import inf, isfinite
from typing import Final

from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.report import words
from warmroute_simulator.report.model import Settings
from warmroute_simulator.simulation.arrivals import ArrivalPlan, Starts
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.records import Records
from warmroute_simulator.traces.trace import Trace

_ENGINE_DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(EngineConfig)
    if field.name not in ("latency", "kv_tokens", "kind")
}

_TAIL_SHARE = 0.5
"""Closed loop: from when on the time after the last session's start is worth a remark, in that of starts."""

_RISE: Final = 1.4
"""Requests in flight in the last third over those in the second: what a steady trace does not reach by chance
where there are more than a few."""
_FEW_ALIVE: Final = 8.0


def settings_of(trace: Trace, config: RunConfig, load: float | None) -> Settings:
    """Reads. By name, as text or number."""
    engines = [worker.engine for worker in config.fleet]
    settings: Settings = {
        "fleet": _fleet(config.fleet),
        "engine": _one_or_all([engine.kind for engine in engines]),
        "kv_tokens": _one_or_all([engine.kv_tokens for engine in engines]),
    }
    for name, default in _ENGINE_DEFAULTS.items():
        values = [getattr(engine, name) for engine in engines]
        if any(value != default for value in values):
            settings[name] = _one_or_all(values)
    if any(worker.max_model_len for worker in config.fleet):
        settings["max_model_len"] = _one_or_all([worker.max_model_len or 0 for worker in config.fleet])
    settings |= _pace(trace, config.arrivals)
    if load is not None:
        settings["load"] = load
    for name in ("network_s", "feedback_s"):
        if getattr(config, name):
            settings[name] = getattr(config, name)
    if config.routers > 1:
        settings |= {"routers": config.routers, "spread": config.spread.value}
    if config.kv_events:
        settings["kv_events"] = "told"
    for name in ("price_error", "capacity_error"):
        if getattr(config, name) != 1.0:
            settings[name] = getattr(config, name)
    if config.scenario:
        settings["scenario"] = ", ".join(happening.text for happening in config.scenario)
    return settings


def remarks(trace: Trace, config: RunConfig, records: Records) -> list[str]:
    """Reads. What the numbers do not say by themselves."""
    return [
        *(f"at {happened.at_s:,.1f} s: {happened.what}" for happened in records.happened),
        *_of_pace(trace, config.arrivals, records),
        *_of_rise(trace, records),
        *_of_length(trace, config.fleet),
    ]


def _fleet(fleet: tuple[WorkerPlan, ...]) -> str:
    kinds: dict[str, int] = {}
    for worker in fleet:
        kinds[worker.worker_class] = kinds.get(worker.worker_class, 0) + 1
    return " + ".join(f"{count}×{kind}" for kind, count in kinds.items())


def _one_or_all(values: Sequence[str] | Sequence[int] | Sequence[float]) -> str | int | float:
    distinct: list[str | int | float] = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else " / ".join(map(str, distinct))


def _pace(trace: Trace, plan: ArrivalPlan) -> Settings:
    if not trace.closed_loop:
        return {"speed": plan.speed}
    starts = plan.starts_of(trace)
    pace: Settings = {"starts": starts.value}
    if starts is Starts.LANES:
        pace["lanes"] = plan.lanes
    elif starts is Starts.POISSON:
        pace["sessions_per_s"] = plan.sessions_per_s
    else:
        pace["speed"] = plan.speed
    if isfinite(plan.idle_cap_s):
        pace["idle_cap_s"] = plan.idle_cap_s
    return pace


def _of_pace(trace: Trace, plan: ArrivalPlan, records: Records) -> list[str]:
    if not trace.closed_loop:
        told = plan.starts is not None
        return ["open loop: lanes, rates and starts of sessions change nothing here"] if told else []
    notes = []
    cap_s = plan.idle_cap_s
    cut = sum(think_s > cap_s for think_s in trace.think_s) if cap_s < inf else 0
    if cut:
        share = words.percent(cut / len(trace))
        notes.append(f"think times cut to {words.seconds(cap_s)} (--idle-cap): {cut:,}, {share} of all")
    starts = plan.starts_of(trace)
    if starts is not Starts.RECORDED and plan.speed != 1.0:
        notes.append("closed loop: the speed changes nothing here, as sessions do not start as recorded")
    begun = [at for at in records.session_started_s if at == at]
    if starts is not Starts.LANES and len(begun) > 1:
        spell_s, tail_s = max(begun) - min(begun), records.ended_s - max(begun)
        if tail_s > _TAIL_SHARE * spell_s:
            notes.append(
                f"sessions began during {words.seconds(spell_s)} and went on for {words.seconds(tail_s)}: "
                "most of the time fewer are alive than the load stands for"
            )
    return notes


def _of_rise(trace: Trace, records: Records) -> list[str]:
    """Open loop: a trace that is shorter than what happens in it shows a fleet that has just been started."""
    if trace.closed_loop:
        return []
    end_s = max((at for at in records.arrived_s if at == at), default=0.0)
    thirds: list[list[int]] = [[], [], []]
    for sample in records.samples:
        if sample.at_s < end_s:
            thirds[int(3 * sample.at_s / end_s)].append(sum(sample.waiting) + sum(sample.running))
    _, middle, last = (sum(third) / len(third) if third else 0.0 for third in thirds)
    if middle < _FEW_ALIVE or last < _RISE * middle:
        return []
    rise = f"{middle:,.0f} to {last:,.0f} from the second third to the last"
    return [
        f"requests in flight rose to the end, {rise}: a fleet that fills; a longer trace would show worse"
    ]


def _of_length(trace: Trace, fleet: tuple[WorkerPlan, ...]) -> list[str]:
    limit = min((worker.context_tokens for worker in fleet if worker.context_tokens), default=0)
    if not limit or any(worker.max_model_len for worker in fleet):
        return []
    ends = trace.tree.ends
    longer = sum(
        ends[prompt] + output > limit
        for prompt, output in zip(trace.prompts, trace.output_tokens, strict=True)
    )
    if not longer:
        return []
    return [
        f"longer than the preset's context of {limit:,} and served all the same (--max-model-len): {longer:,}"
    ]
