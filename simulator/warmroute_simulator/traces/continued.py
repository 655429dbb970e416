"""Prompt trees of conversations: prompts made of chained blocks, of which some go on from a former answer.

Blocks say what prompts share, up to whole blocks. What blocks cannot say is that the unfinished end of one
prompt and the answer to it stand, word for word, in the next prompt of the conversation; an engine that wrote
that answer holds its KV. Whoever knows that a prompt continues another (a journal, a log of texts) says so,
and the tree gets the path

    shared blocks ── the former prompt's end ── its answer ── what is new

Blocks need no fixed size in tokens. Of each prompt, its length is known in blocks (with a fraction at the
end) and in tokens, so its new blocks lie evenly between what was known of it and its end. Where two prompts
part inside an answer, the later one is taken to have nothing of it.

Prompts that part inside a block share its beginning. How much that is may be known from elsewhere (`extras`).
"""

from __future__ import annotations

from array import array
from typing import Final, final

from warmroute_simulator.traces.chains import BlockRuns
from warmroute_simulator.traces.prompts import ROOT, PromptTree

NO_ROW: Final = -1


@final
class ContinuedPrompts:
    """State: the runs of blocks, and columns with a row per prompt, to be set until `tree` is called."""

    __slots__ = (
        "_runs",
        "afters",
        "blocks",
        "continues",
        "ends",
        "extras",
        "new_runs",
        "output_tokens",
        "rest_ids",
        "tokens",
    )

    def __init__(self) -> None:
        self._runs = BlockRuns()
        self.ends = array("i")
        """Serial number of the last whole block, or −1."""
        self.afters = array("i")
        """Serial number of the last block that was known before, or −1."""
        self.new_runs = array("i")
        """The run of blocks that this prompt was the first to have, or −1."""
        self.blocks = array("d")
        self.tokens = array("i")
        self.output_tokens = array("i")
        self.continues = array("i")
        """The row from whose answer the prompt goes on, or NO_ROW. Heeded where the lengths allow it."""
        self.rest_ids: dict[int, int] = {}
        """Names of what is behind the last whole block, by row; nameless rests are nobody else's."""
        self.extras: dict[int, int] = {}
        """Tokens behind a block, by its serial number, that are equal in all prompts that have the block."""

    def __len__(self) -> int:
        return len(self.ends)

    def add(self, ids: array[int], blocks: float, tokens: int, output_tokens: int) -> int:
        """Writes. A prompt of these whole blocks, `blocks` long in all; its row.

        Raises NotChainedError, and has then changed nothing.
        """
        runs = self._runs
        before = len(runs.firsts)
        end = runs.add(ids)
        new = len(runs.firsts) > before
        self.ends.append(end)
        self.afters.append(runs.afters[before] if new else end)
        self.new_runs.append(before if new else -1)
        self.blocks.append(blocks)
        self.tokens.append(tokens)
        self.output_tokens.append(output_tokens)
        self.continues.append(NO_ROW)
        return len(self.ends) - 1

    def tree(self) -> tuple[PromptTree, array[int], array[int]]:
        """Reads. The tree, and for each row the nodes at which prompt and answer end; the prompt's twice when
        no later prompt goes on from the answer.
        """
        planter = _Planter(self, self._runs)
        planter.plant()
        return planter.tree, planter.nodes, planter.answers

    def shared_tokens(self) -> array[int]:
        """Reads. For each row the tokens of the blocks that were known before; −1 where it goes on from an
        answer."""
        planter = _Planter(self, self._runs)
        planter.plant()
        return planter.shared


@final
class _Planter:
    """State: the tree so far, and the node of every block at which a run is cut."""

    __slots__ = (
        "_cuts",
        "_extra_nodes",
        "_node_of",
        "_prompts",
        "_rests",
        "_runs",
        "answers",
        "nodes",
        "shared",
        "tree",
    )

    def __init__(self, prompts: ContinuedPrompts, runs: BlockRuns) -> None:
        self._prompts, self._runs = prompts, runs
        self._cuts = runs.cut(prompts.ends)
        self.tree = PromptTree()
        self._rests: dict[tuple[int, int, int], int] = {}
        self._node_of = {-1: ROOT}
        self._extra_nodes: dict[int, int] = {}
        self.nodes = array("i")
        self.answers = array("i")
        self.shared = array("i")

    def plant(self) -> None:
        """Writes. All prompts, in their order."""
        prompts, ends = self._prompts, self.tree.ends
        for row, run in enumerate(prompts.new_runs):
            former = self._former(row)
            if run >= 0:
                self._plant_run(row, former)
            node = self._end(row, former)
            self.nodes.append(node)
            self.answers.append(node)
            self.shared.append(ends[self._node_of[prompts.afters[row]]] if former == NO_ROW else -1)

    def _former(self, row: int) -> int:
        """Writes. The row from whose answer this one goes on, with its answer's node made; or NO_ROW."""
        prompts, tree = self._prompts, self.tree
        former = prompts.continues[row]
        if former == NO_ROW or prompts.afters[row] != prompts.ends[former]:
            return NO_ROW
        node, answer = self.nodes[former], self.answers[former]
        if tree.ends[node] + prompts.output_tokens[former] >= prompts.tokens[row]:
            return NO_ROW
        if answer == node:
            self.answers[former] = tree.add(node, prompts.output_tokens[former])
        return former

    def _plant_run(self, row: int, former: int) -> None:
        """Writes. Nodes for the blocks that this prompt was the first to have."""
        prompts, tree, depths = self._prompts, self.tree, self._runs.depths
        tokens = prompts.tokens[row]
        after, cuts = next(self._cuts)
        known = float(depths[after]) if after >= 0 else 0.0
        start = tree.ends[self._node_of[after]]
        if former == NO_ROW:
            node = self._behind(after, tokens)
            answered = 0
        else:
            node = self.nodes[former]
            answered = tree.ends[self.answers[former]]
            known, start = max(known, prompts.blocks[former]), tree.ends[node]
        per_block = max(0, tokens - start) / max(1e-9, prompts.blocks[row] - known)
        for cut in cuts:
            end = min(tokens, start + round((depths[cut] - known) * per_block))
            if answered and end > answered > tree.ends[node]:
                node = self.answers[former]
            if end > max(tree.ends[node], answered):
                node = tree.add(node, end - tree.ends[node])
            self._node_of[cut] = node
            node = self._behind(cut, tokens)

    def _behind(self, serial: int, tokens: int) -> int:
        """Writes. The node that a prompt of so many tokens is at when it goes on behind a block."""
        tree, node = self.tree, self._node_of[serial]
        extra = self._prompts.extras.get(serial)
        if extra is None or tree.ends[node] + extra > tokens:
            return node
        found = self._extra_nodes.get(serial)
        if found is None:
            found = self._extra_nodes[serial] = tree.add(node, extra)
        return found

    def _end(self, row: int, former: int) -> int:
        """Writes. The node at which the prompt ends."""
        prompts, tree = self._prompts, self.tree
        tokens, end = prompts.tokens[row], prompts.ends[row]
        if former == NO_ROW:
            node = self._behind(end, tokens)
        else:
            node = self._node_of[end]
            if tree.ends[node] < tree.ends[self.answers[former]]:
                node = self.answers[former]
        while tree.ends[node] > tokens:
            node = tree.parents[node]
        rest = tokens - tree.ends[node]
        if not rest:
            return node
        rest_id = prompts.rest_ids.get(row)
        if rest_id is None:
            return tree.add(node, rest)
        key = (node, rest_id, rest)
        found = self._rests.get(key)
        return self._rests.setdefault(key, tree.add(node, rest)) if found is None else found
