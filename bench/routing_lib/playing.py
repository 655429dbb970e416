"""An agenda, played to its end: every run is in the store as soon as it is done."""

from __future__ import annotations

from routing_lib.agenda import Agenda
from routing_lib.progress import Progress
from routing_lib.runs import Runs


def play(agenda: Agenda, processes: int) -> None:
    """Writes. What is not in the store yet. Raises RunFailed, KeyboardInterrupt."""
    progress = Progress()
    try:
        with Runs(processes, agenda.store.digest) as runs:
            while orders := agenda.orders():
                progress.expect(agenda.left())
                for run in runs.play(orders):
                    agenda.store.add(run)
                    progress.tell(run.requests)
    finally:
        progress.end()
