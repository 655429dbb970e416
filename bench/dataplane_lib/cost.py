"""CPU time and memory of a process and all its children, from /proc."""

from __future__ import annotations

from pathlib import Path


def family(pid: int) -> list[int]:
    """The process, its children, and theirs."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*"):
            try:
                found += map(int, (task / "children").read_text().split())
            except OSError:  # just ended
                continue
    return found


def cpu_ns(pid: int) -> int:
    """Time on a core, user and system, of all threads; to the ns. Threads that ended are not in it."""
    total = 0
    for member in family(pid):
        for task in Path(f"/proc/{member}/task").glob("*"):
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue
    return total


def memory_bytes(pid: int) -> int:
    """Resident memory, pages that several processes share counted once (PSS)."""
    total = 0
    for member in family(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
