"""What `simulator fit` ends with: a preset, and how well it does; as a table and as JSON."""

from __future__ import annotations

from typing import Final

import msgspec

from warmroute_simulator.engine.presets import Preset
from warmroute_simulator.fitting.agreement import Agreement

SCHEMA: Final = 1


class FitResult:
    """What a fit ended with. State: the preset, the agreements, what a reader should know."""

    def __init__(
        self, preset: Preset, parts: dict[str, Agreement | None], notes: list[str], simulations: int
    ) -> None:
        self.preset = preset
        self.parts = parts
        self.notes = notes
        self.simulations = simulations

    def json(self) -> bytes:
        """Reads."""
        report = {
            "schema": SCHEMA, "preset": self.preset, **self.parts, "simulations": self.simulations,
            "notes": self.notes,
        }  # fmt: skip
        return msgspec.json.format(msgspec.json.encode(report)) + b"\n"

    def show(self) -> None:
        """Reads. A table of errors, and the coefficients."""
        from rich.console import Console
        from rich.table import Table

        console = Console()
        for part, told in self.parts.items():
            if told is None:
                continue
            table = Table(title=f"{part.replace('_', ' ')}: {told.requests} requests", title_justify="left")
            table.add_column("")
            for name in ("measured", "simulated", "error of the mean", "of a request"):
                table.add_column(name, justify="right")
            for name, unit, factor, compared in (
                ("TTFT", "ms", 1000, told.ttft_s),
                ("TPOT", "ms", 1000, told.tpot_s),
                ("E2E", "s", 1, told.e2e_s),
                ("output", "tok/s", 1, told.output_tokens_per_s),
            ):
                if compared is not None:
                    single = "" if compared.request_error is None else f"{compared.request_error:.1%}"
                    table.add_row(
                        f"{name} ({unit})", f"{compared.measured * factor:,.2f}",
                        f"{compared.simulated * factor:,.2f}", f"{compared.error:+.1%}", single,
                    )  # fmt: skip
            console.print(table)
        latency = self.preset.latency
        named = [f"{name} {getattr(latency, name):g}" for name in latency.__struct_fields__]
        console.print("  ".join(named), highlight=False)
        console.print(
            f"host: {self.preset.request_overhead_s * 1000:g} ms per request, "
            f"{self.preset.step_overhead_s * 1000:g} ms per step; {self.simulations} simulations",
            highlight=False,
        )
        for note in self.notes:
            console.print(f"note: {note}", highlight=False)


def errors_of(told: Agreement) -> dict[str, float]:
    """Of the means, for a preset's provenance."""
    found = {
        "ttft": told.ttft_s, "tpot": told.tpot_s, "e2e": told.e2e_s, "throughput": told.output_tokens_per_s,
    }  # fmt: skip
    return {name: round(compared.error, 5) for name, compared in found.items() if compared is not None}
