"""A balancer's knowledge out into frames, and back into another one.

    frames = list(snapshot(balancer, now))        later, elsewhere:  for each frame the restore_… of its kind

What holds prefixes is taken as what it means and not as it lies in memory: for each worker its prompts in the
order of last use, which are inserted again. So a snapshot may be taken in slices while requests go on: every
frame is true when it is made, and a prompt that was used in between stands there as of one of the two times.
An epoch's boundaries and the record of evictions (ghosts) are not kept; hits and the order of eviction are.

Rules kept. `snapshot` yields after a few hundred steps, and `restore_prefixes` after a few inserts, under a
millisecond each. An insert evicts as any does, where there is less room than before.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import inf
from typing import Final, final

from warmroute_policies.answers import Answered
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import ID_BYTES, PromptBlocks, PromptEnd
from warmroute_policies.pseudonym import pseudonym
from warmroute_policies.radix import Epoch, Node, depth_of, epoch_of
from warmroute_policies.sessions import Session
from warmroute_policies.state import AnyFrame, Capacity, Conversations, Facts, Prefixes, Turns
from warmroute_policies.types import WorkerId

# Rows of a frame of answers or sessions: a tenth of a millisecond.
_ROWS: Final = 256

# A lane may open epochs as fast as they are written; after so many times those at the beginning it is enough.
_EPOCHS_FACTOR: Final = 4

# Prompts that are inserted in one slice: under a millisecond.
_PROMPTS: Final = 16

_BEGINNING: Final = -1


def snapshot(balancer: Balancer, now: float) -> Iterator[AnyFrame]:
    """Reads. The frames; between two of them the balancer may go on. `now` is the time of the first."""
    beliefs = balancer.beliefs
    yield Facts(
        {model: (sums[0], sums[1]) for model, sums in beliefs.ratio.sums.items()},
        beliefs.survivors.share,
        beliefs.reuse.used,
        list(beliefs.reuse.returns),
        beliefs.learned_prices.prices(),
    )
    fleet, index, runs = balancer.fleet, balancer.index, _Runs()
    for slot, spec in fleet.slots():
        tokens = beliefs.capacity.tokens(slot)
        yield Capacity(spec.worker_id, None if tokens == inf else tokens)
    for slot, spec in fleet.slots():
        tick, left = -1, _EPOCHS_FACTOR * (1 + len(index.epochs(slot)))
        # What is used between two slices moves to an epoch that is still to come.
        while left and fleet.slot_of.get(spec.worker_id) == slot:
            epoch = next((epoch for epoch in index.epochs(slot) if epoch.tick > tick), None)
            if epoch is None:
                break
            tick, left = epoch.tick, left - 1
            age_s = max(0.0, now - beliefs.reuse.time_of(epoch.tick))
            frame = runs.frame(spec.worker_id, age_s, index.survivors(slot, epoch), epoch)
            if frame is not None:
                yield frame
    answers = beliefs.answers.items()
    for at in range(0, len(answers), _ROWS):
        yield Conversations(
            [
                (block_id, fleet.ids[answered.slot], *answered.end, answered.total_tokens)
                for block_id, answered in answers[at : at + _ROWS]
                if fleet.specs[answered.slot] is not None
            ]
        )
    sessions = balancer.sessions
    names = sessions.kept()
    for at in range(0, len(names), _ROWS):
        yield Turns(
            [
                (pseudonym(name), s.worker, now - s.last_seen_at, s.turns, s.moves, s.footprint_tokens)
                for name in names[at : at + _ROWS]
                if (s := sessions.named(name)) is not None
            ]
        )


@final
class _Runs:
    """State: which runs were written so far, and how they were cut at that time."""

    def __init__(self) -> None:
        self._count = 0
        self._known: dict[Node, tuple[int, int, int]] = {}
        """Node to the number of its run, and to its start and end as they were written."""

    def frame(self, worker: WorkerId, age_s: float, nodes: list[Node], epoch: Epoch) -> Prefixes | None:
        """Writes. What the worker used last in this epoch, oldest first; None when that is nothing."""
        frame = Prefixes(worker, age_s, self._count, [], [], [])
        for node in nodes:
            if epoch_of(node, epoch.slot) is epoch:
                depth = depth_of(node, epoch.slot)
                frame.ends.append((self._number(node, frame), depth))
        return frame if frame.ends else None

    def _number(self, node: Node, frame: Prefixes) -> int:
        """Writes. The run that ends where the node ends; it and what is missing above it are added."""
        above: list[Node] = []
        number = _BEGINNING
        at: Node | None = node
        while at is not None and at.parent is not None:
            known = self._known.get(at)
            if known is not None and known[1] == at.start and known[2] <= at.end:
                number = known[0]
                if known[2] < at.end:  # it grew since
                    run = at.ids[(known[2] - at.start) * ID_BYTES :]
                    number = self._add(at, number, run, frame)
                break
            above.append(at)
            at = at.parent
        for missing in reversed(above):
            number = self._add(missing, number, missing.ids, frame)
        return number

    def _add(self, node: Node, parent: int, run: bytes, frame: Prefixes) -> int:
        frame.parents.append(parent)
        frame.runs.append(run)
        self._known[node] = self._count, node.start, node.end
        self._count += 1
        return self._count - 1


@final
class Restoring:
    """State: the runs of all frames so far, which later ones go on from."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._runs: list[bytes] = []

    def read(self, frame: Prefixes) -> None:
        """Writes. Takes a frame's runs, in the order of the snapshot; to be called for every frame, those too
        that are not restored. Raises ValueError where runs do not fit."""
        if frame.first != len(self._runs) or len(frame.parents) != len(frame.runs):
            raise ValueError("runs are missing")
        for number, parent in enumerate(frame.parents, start=frame.first):
            if not _BEGINNING <= parent < number:
                raise ValueError("a run goes on from a later one")
        if any(len(run) % ID_BYTES for run in frame.runs):
            raise ValueError("a run is no whole number of ids")
        runs = len(self._runs) + len(frame.runs)
        if any(depth < 1 or not 0 <= run < runs for run, depth in frame.ends):
            raise ValueError("a prompt ends in no run")
        self._parents += frame.parents
        self._runs += frame.runs

    def path(self, run: int, depth: int) -> bytes:
        """Reads. The ids of a prompt of so many blocks that ends in a run. Raises ValueError."""
        pieces: list[bytes] = []
        while run != _BEGINNING:
            if not 0 <= run < len(self._runs):
                raise ValueError("there is no such run")
            pieces.append(self._runs[run])
            run = self._parents[run]
        return b"".join(reversed(pieces))[: depth * ID_BYTES]


def restore_facts(balancer: Balancer, facts: Facts) -> None:
    """Writes. Beliefs about all workers, into a balancer that has learned nothing yet. Prices are restored by
    the configuration (`learned_prices`)."""
    beliefs = balancer.beliefs
    for model, (prompt_bytes, tokens) in facts.token_sums.items():
        beliefs.ratio.restore(model, prompt_bytes, tokens)
    beliefs.survivors.share = min(1.0, max(0.0, facts.survivors))
    beliefs.reuse.restore(facts.used, facts.returns)
    beliefs.measure_capacities()


def restore_prefixes(balancer: Balancer, restoring: Restoring, frame: Prefixes, now: float) -> Iterator[int]:
    """Writes. One worker's prompts of one stretch of time, in slices; how many each held. Ends early when the
    worker is not present. Raises ValueError."""
    index, ends = balancer.index, frame.ends
    balancer.beliefs.reuse.read_clock(index.clock, now - frame.age_s)
    for at in range(0, len(ends), _PROMPTS):
        slot = balancer.fleet.slot_of.get(frame.worker)
        if slot is None:
            return
        for run, depth in ends[at : at + _PROMPTS]:
            blocks = PromptBlocks.from_ids(restoring.path(run, depth))
            index.insert(slot, blocks, index.match(blocks))
        yield min(_PROMPTS, len(ends) - at)


def restore_capacity(balancer: Balancer, frame: Capacity) -> None:
    """Writes. What was believed of the worker's room, unless the worker or an operator tells it now."""
    fleet = balancer.fleet
    slot = fleet.slot_of[frame.worker]
    if frame.tokens is not None and fleet.spec(slot).kv_capacity_tokens is None:
        balancer.beliefs.restore_capacity(slot, fleet.spec(slot), frame.tokens)


def restore_answers(balancer: Balancer, rows: list[tuple[int, WorkerId, int, int, int]]) -> None:
    """Writes. Answered prompts of workers that are present."""
    slots = balancer.fleet.slot_of
    for block_id, worker, bytes_len, rest, tokens in rows:
        if worker in slots:
            balancer.beliefs.answers.add(
                block_id, Answered(slots[worker], PromptEnd(bytes_len, rest), tokens)
            )


def restore_sessions(
    balancer: Balancer, rows: list[tuple[str, WorkerId, float, int, int, int]], now: float
) -> None:
    """Writes. Sessions of workers that are present, the oldest first."""
    slots = balancer.fleet.slot_of
    for name, worker, age_s, turns, moves, tokens in islice(rows, balancer.config.sessions_max):
        if worker in slots:
            balancer.sessions.restore(name, Session(worker, now - age_s, turns, moves, tokens))
