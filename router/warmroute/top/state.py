"""What is shown, and what a key changes. Nothing here draws or talks to the router."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from warmroute.top.feed import NotReachable
from warmroute.top.schema import Decision, Decisions, Snapshot, Worker

DECISIONS_MAX: Final = 200
"""More than the tallest terminal shows."""

PANES: Final = ("decisions", "prefixes", "sessions", "shadows")


@dataclass(frozen=True, slots=True)
class Question:
    """What is done when the answer is yes."""

    worker: str
    draining: bool


class State:
    """State: the newest snapshot and decisions, where the operator is, and what is asked or told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.snapshot: Snapshot | None = None
        self.decisions: OrderedDict[int, Decision] = OrderedDict()
        """By number, the newest last."""
        self.skipped = 0
        """Requests that were not told, because there are too many to read."""
        self.trouble: str | None = None
        """Why nothing new comes."""
        self.note: str | None = None
        """What came of the last order; until the next key."""
        self.question: Question | None = None
        self.paused = False
        self.helping = False
        self.ended = False
        self.pane = 0
        self._selected: str | None = None

    # --- what the router tells --------------------------------------------------------------------

    def take(self, told: Snapshot | Decisions | NotReachable) -> None:
        """Writes. While paused, the picture stays."""
        if isinstance(told, NotReachable):
            self.trouble = str(told)
            return
        self.trouble = None
        if self.paused:
            return
        if isinstance(told, Snapshot):
            if self.snapshot is not None and told.uptime_s < self.snapshot.uptime_s:
                self.decisions.clear()  # another process, which counts anew
                self.skipped = 0
            self.snapshot = told
            return
        self.skipped += told.skipped
        for decision in told.decisions:
            self.decisions[decision.number] = decision
        while len(self.decisions) > DECISIONS_MAX:
            self.decisions.popitem(last=False)

    # --- where the operator is --------------------------------------------------------------------

    @property
    def workers(self) -> list[Worker]:
        """Reads."""
        return [] if self.snapshot is None else self.snapshot.workers

    @property
    def selected(self) -> int:
        """Reads. Place of the selected worker; the first when it has left. 0 where there are none."""
        places = [worker.id for worker in self.workers]
        return places.index(self._selected) if self._selected in places else 0

    def press(self, key: str) -> Question | None:
        """Writes. Returns an order that was confirmed."""
        if key == "ctrl-c":
            self.ended = True
        elif self.question is not None:
            question, self.question = self.question, None
            if key in ("y", "Y"):
                return question
            self.note = "nothing was changed"
        elif self.helping:
            self.helping = False
            self.ended = key == "q"
        else:
            self.note = None
            self._press(key)
        return None

    def _press(self, key: str) -> None:
        workers = self.workers
        if key == "q":
            self.ended = True
        elif key == "p":
            self.paused = not self.paused
        elif key == "?":
            self.helping = True
        elif key == "tab":
            self.pane = (self.pane + 1) % len(PANES)
        elif key == "back-tab":
            self.pane = (self.pane - 1) % len(PANES)
        elif key in ("down", "j", "up", "k") and workers:
            step = 1 if key in ("down", "j") else -1
            place = min(len(workers) - 1, max(0, self.selected + step))
            self._selected = workers[place].id
        elif key in ("d", "u") and workers:
            self._ask(workers[self.selected], draining=key == "d")

    def _ask(self, worker: Worker, *, draining: bool) -> None:
        self._selected = worker.id  # the answer is about this one, whoever comes or goes
        if worker.draining is draining:
            self.note = f"{worker.id} is {'draining already' if draining else 'not draining'}"
        else:
            self.question = Question(worker.id, draining)
