"""Is the simulator fast, true and the same every time?

    make bench-simulator [ARGS="--quick --json FILE --only speed,bounds"]

    speed       CPU seconds of the whole process (start-up, reading, simulation, bounds) for an hour of
                Mooncake's conversations on eight workers, beside NVIDIA Dynamo's offline replay of the same
                trace; for 24,000 requests of coding agents, with the peak of memory
    growth      how the cost of a request grows from 10,000 to a million of them: caches and index are not
                yet full after 10,000, so this is no growth with their number alone
    fidelity    against a real vLLM run and measured H100 and H200 points (`bench/fidelity.py`)
    parity      against a live router in front of live engines (`bench/live_parity.py`)
    bounds      hit rates of simple routings against published ones
    same        two runs, and one and two processes, give the same results

How to read it. Runs are interleaved and the median is told, the range beside it. A trace that is not there
leaves its rows out, and says so: `--traces` and `--calibration` say where they are.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import fidelity
import live_parity
from warmroute_simulator.bounds.infinite import single_infinite
from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.replay import replay
from warmroute_simulator.traces.formats import read_trace
from warmroute_simulator.traces.trace import Trace

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warmroute" / "bench"
DYNAMO_VERSION = "1.6.1"

BAR_MOONCAKE_CPU_S = 2.5
BAR_DYNAMO_RATIO = 2.0
BAR_AGENTS_CPU_S = 20.0
BAR_MEMORY_MB = 1000.0
BAR_GROWTH = 1.3
BAR_POINTS = 1.0

# Published for the Mooncake conversation trace and eight caches: endless ones, requests sent at random and in
# turn, and a single cache.
PUBLISHED = {"single cache": 0.374, "random": 0.131, "round robin": 0.139}


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process took."""

    cpu_s: float
    memory_mb: float


class Rows:
    """Prints figures as they come. State: the figures."""

    def __init__(self) -> None:
        self.figures: dict[str, object] = {}

    def tell(self, name: str, value: object, text: str, bar: str = "", held: bool | None = None) -> None:
        verdict = "" if held is None else "held" if held else "MISSED"
        self.figures[name] = {"value": value, "held": held}
        print(f"{name:<44} {text:<34} {bar:<26} {verdict}", flush=True)

    def left_out(self, name: str, why: str) -> None:
        self.figures[name] = {"left_out": why}
        print(f"{name:<44} left out: {why}", flush=True)


def spent_by(arguments: Sequence[str]) -> Spent:
    """Runs a command to its end. Raises CalledProcessError with what it said."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise subprocess.CalledProcessError(process.returncode, arguments, output.read().decode())
    return Spent(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def simulator(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "warmroute_simulator", *arguments]


def dynamo(folder: Path, mooncake: Path) -> list[str] | str:
    """The command that replays the trace, or why there is none. Installed on first use."""
    environment = CACHE / f"dynamo-{DYNAMO_VERSION}"
    python = environment / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", environment], check=True, capture_output=True)
            wheel = f"ai-dynamo-runtime=={DYNAMO_VERSION}"
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--no-deps", wheel], check=True, capture_output=True)
            subprocess.run([*pip, "uvloop", "pydantic<=2.13.5"], check=True, capture_output=True)
        subprocess.run([python, "-c", "import dynamo._core"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(environment, ignore_errors=True)
        return f"ai-dynamo-runtime {DYNAMO_VERSION} cannot be installed here ({error})"
    plain = folder / "mooncake.jsonl"
    with gzip.open(mooncake, "rb") as packed, plain.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return ["env", "DYN_LOG=error", str(python), str(ROOT / "bench" / "dynamo_replay.py"), str(plain)]


def speed(rows: Rows, traces: Path, quick: bool) -> None:
    """Prints the figures."""
    rounds = 1 if quick else 3
    mooncake = traces / "mooncake" / "conversation_trace.jsonl.gz"
    if mooncake.exists():
        ours = simulator("replay", str(mooncake), "--kv-tokens", "1000000", "--quiet")
        with tempfile.TemporaryDirectory(prefix="warmroute-bench-") as folder:
            theirs = dynamo(Path(folder), mooncake)
            mine, other = [], []
            for _ in range(rounds):
                mine.append(spent_by(ours))
                if not isinstance(theirs, str):
                    other.append(spent_by(theirs))
        cpu = median(spent.cpu_s for spent in mine)
        rows.tell(
            "Mooncake, 12,031 requests: CPU",
            cpu,
            f"{cpu:.2f} s, {max(spent.memory_mb for spent in mine):.0f} MB",
            f"at most {BAR_MOONCAKE_CPU_S} s",
            cpu <= BAR_MOONCAKE_CPU_S,
        )
        if isinstance(theirs, str):
            rows.left_out("Dynamo's replay over ours", theirs)
        else:
            ratios = [o.cpu_s / m.cpu_s for o, m in zip(other, mine, strict=True)]
            ratio, dynamo_s = median(ratios), median(spent.cpu_s for spent in other)
            rows.tell(
                "Dynamo's replay over ours: CPU",
                ratio,
                f"{ratio:.1f} [{min(ratios):.1f}-{max(ratios):.1f}] ({dynamo_s:.2f} s)",
                f"at least {BAR_DYNAMO_RATIO}",
                ratio >= BAR_DYNAMO_RATIO,
            )
    else:
        rows.left_out("Mooncake", f"{mooncake} is not here")
    agents = traces / "agentic_coding" / "sessions_even.rle.jsonl.gz"
    if agents.exists():
        spent = [spent_by(simulator("replay", str(agents), "--quiet")) for _ in range(rounds)]
        cpu, memory = median(one.cpu_s for one in spent), max(one.memory_mb for one in spent)
        rows.tell(
            "coding agents, 24,108 requests: CPU",
            cpu,
            f"{cpu:.2f} s",
            f"at most {BAR_AGENTS_CPU_S:g} s",
            cpu <= BAR_AGENTS_CPU_S,
        )
        rows.tell(
            "coding agents: memory",
            memory,
            f"{memory:.0f} MB",
            f"at most {BAR_MEMORY_MB:g} MB",
            memory <= BAR_MEMORY_MB,
        )
    else:
        rows.left_out("coding agents", f"{agents} is not here")


def growth(rows: Rows, many: int) -> None:
    """How the cost of one request grows with their number, beyond what the process costs anyway."""
    few = 10_000
    for generator in ("shared_prefix", "chat"):

        def cost(requests: int, generator: str = generator) -> Spent:
            return spent_by(
                simulator("replay", f"generate:{generator}:requests={requests}", "--load", "0.7", "--quiet")
            )

        ratios, memory_mb = [], 0.0
        for _ in range(1 if many < 1_000_000 else 3):
            # Few and many in turn: a machine that is slower for a while is slower for both.
            start = median(cost(10).cpu_s for _ in range(3))
            small = median(cost(few).cpu_s for _ in range(3))
            large = cost(many)
            ratios.append((large.cpu_s - start) / many / ((small - start) / few))
            memory_mb = max(memory_mb, large.memory_mb)
        ratio = median(ratios)
        rows.tell(
            f"{generator}: cost of a request, {few:,} → {many:,}",
            ratios,
            f"×{ratio:.2f} [{min(ratios):.2f}-{max(ratios):.2f}], {memory_mb:.0f} MB",
            f"at most ×{BAR_GROWTH}",
            ratio <= BAR_GROWTH,
        )


def bounds(rows: Rows, traces: Path, quick: bool) -> None:
    """Prints the figures."""
    mooncake = traces / "mooncake" / "conversation_trace.jsonl.gz"
    if not mooncake.exists():
        rows.left_out("published hit rates", f"{mooncake} is not here")
        return
    trace = read_trace(mooncake)
    found = simple_routings(trace)
    for name, published in PUBLISHED.items():
        off = 100 * (found[name] - published)
        rows.tell(
            f"Mooncake, endless caches, {name}",
            found[name],
            f"{found[name]:.3f}, published {published:.3f}",
            f"within {BAR_POINTS:g} point",
            abs(off) <= BAR_POINTS,
        )


def simple_routings(trace: Trace) -> dict[str, float]:
    """Hit rates of eight endless caches, by how requests are sent to them."""
    order, workers = range(len(trace)), 8
    pages = Pages(trace, 512)
    at_random = Random(0).choices(range(workers), k=len(trace))
    in_turn = [row % workers for row in order]
    return {
        "single cache": single_infinite(trace, order, 512),
        "random": replay(pages, order, at_random, workers).hit_rate,
        "round robin": replay(pages, order, in_turn, workers).hit_rate,
    }


def same(rows: Rows, traces: Path, quick: bool) -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory(prefix="warmroute-bench-") as name:
        folder = Path(name)

        def replayed(number: int) -> object:
            file = folder / f"replay-{number}.json"
            spent_by(simulator("replay", "generate:agents:requests=2000", "--json", str(file), "--quiet"))
            return timeless(json.loads(file.read_bytes()))

        equal = replayed(1) == replayed(2)
        rows.tell("two runs", equal, "equal" if equal else "different", "equal", equal)

        def compared(processes: int) -> object:
            file = folder / f"compare-{processes}.json"
            policies = "round_robin,cache_aware"
            asked = ["compare", "generate:chat:requests=1000", "--policies", policies, "--loads", "0.5,0.9"]
            spent_by(
                simulator(
                    *asked, "--seeds", "2", "--processes", str(processes), "--json", str(file), "--quiet"
                )
            )
            return timeless(json.loads(file.read_bytes()))

        equal = compared(1) == compared(2)
        rows.tell("one and two processes", equal, "equal" if equal else "different", "equal", equal)


def timeless(report: object) -> object:
    """A report without what the machine took for it."""
    if isinstance(report, dict):
        return {key: timeless(value) for key, value in report.items() if key not in ("wall_s", "cpu_s")}
    if isinstance(report, list):
        return [timeless(item) for item in report]
    return report


def fidelity_rows(rows: Rows, calibration: Path, quick: bool) -> None:
    """Prints the figures."""
    rows.figures["fidelity"] = fidelity.measure(calibration, quick)


def parity_rows(rows: Rows, quick: bool) -> None:
    """Prints the figures."""
    rows.figures["parity"] = live_parity.report(
        live_parity.measure("cache_aware", 20.0 if quick else 90.0, range(1 if quick else 3))
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="one short round of each: a look, not a measurement"
    )
    parser.add_argument(
        "--only", metavar="NAMES", help="speed, growth, bounds, same, fidelity, parity; comma-separated"
    )
    parser.add_argument("--traces", type=Path, default=ROOT / "../shared/traces", metavar="FOLDER")
    parser.add_argument("--calibration", type=Path, default=ROOT / "../shared/calibration", metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    rows, quick = Rows(), options.quick
    parts: dict[str, Callable[[], None]] = {
        "speed": lambda: speed(rows, options.traces, quick),
        "growth": lambda: growth(rows, 100_000 if quick else 1_000_000),
        "bounds": lambda: bounds(rows, options.traces, quick),
        "same": lambda: same(rows, options.traces, quick),
        "fidelity": lambda: fidelity_rows(rows, options.calibration, quick),
        "parity": lambda: parity_rows(rows, quick),
    }
    wanted = options.only.split(",") if options.only else list(parts)
    for name in wanted:
        if name not in parts:
            parser.error(f"--only knows {', '.join(parts)}, not {name!r}")
        parts[name]()
    if options.json is not None:
        options.json.write_text(json.dumps(rows.figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
