"""Conversations as trees: what goes on from an answer has the answer's tokens, and only that."""

from __future__ import annotations

import random
from array import array

from warmroute_simulator.traces.continued import ContinuedPrompts
from warmroute_simulator.traces.prompts import PromptTree


def ends(tree: PromptTree, node: int) -> list[int]:
    return [tree.ends[step] for step in tree.path(node)]


def ids(*numbers: int) -> array[int]:
    return array("q", numbers)


def test_a_prompt_goes_through_the_former_prompts_end_and_answer() -> None:
    prompts = ContinuedPrompts()
    prompts.add(ids(1, 2), 2.5, 250, 40)
    row = prompts.add(ids(1, 2, 3, 4), 4.5, 450, 7)
    prompts.continues[row] = 0
    tree, nodes, answers = prompts.tree()
    # Blocks 3 and 4 lie evenly between the former prompt's end and this one's: at 300 and 400 tokens.
    assert ends(tree, nodes[0]) == [200, 250]
    assert ends(tree, nodes[1]) == [200, 250, 290, 400, 450]
    assert answers[0] == tree.path(nodes[1])[2]
    assert answers[1] == nodes[1]


def test_without_being_told_blocks_are_all_that_is_shared() -> None:
    prompts = ContinuedPrompts()
    prompts.add(ids(1, 2), 2.5, 250, 40)
    prompts.add(ids(1, 2, 3, 4), 4.5, 450, 7)
    tree, nodes, answers = prompts.tree()
    assert ends(tree, nodes[1]) == [200, 400, 450]
    assert answers == nodes


def test_an_answer_that_leaves_no_room_is_not_gone_on_from() -> None:
    prompts = ContinuedPrompts()
    prompts.add(ids(1, 2), 2.5, 250, 200)
    prompts.continues[prompts.add(ids(1, 2, 3, 4), 4.5, 450, 7)] = 0
    tree, nodes, answers = prompts.tree()
    assert ends(tree, nodes[1]) == [200, 400, 450]
    assert answers == nodes


def test_two_next_turns_share_the_answer_and_their_own_blocks() -> None:
    prompts = ContinuedPrompts()
    prompts.add(ids(1), 1.5, 150, 20)
    for blocks in (ids(1, 2, 3), ids(1, 2, 4), ids(1, 9)):
        prompts.continues[prompts.add(blocks, len(blocks) + 0.5, 100 * len(blocks) + 50, 5)] = 0
    prompts.continues[2] = -1  # it shares a block with row 1, and with it the answer
    tree, nodes, _ = prompts.tree()
    assert ends(tree, nodes[1]) == [100, 150, 170, 200, 300, 350]
    assert ends(tree, nodes[2]) == [100, 150, 170, 200, 300, 350]
    assert tree.path(nodes[2])[:4] == tree.path(nodes[1])[:4]
    assert tree.path(nodes[3])[:3] == tree.path(nodes[1])[:3]
    assert ends(tree, nodes[3]) == [100, 150, 170, 200, 250]


def test_prompts_that_part_inside_an_answer_share_what_was_before_it() -> None:
    prompts = ContinuedPrompts()
    prompts.add(ids(1), 1.5, 150, 200)
    prompts.continues[prompts.add(ids(1, 2, 3, 4), 4.5, 450, 5)] = 0
    prompts.add(ids(1, 2, 7, 8), 4.5, 450, 5)
    tree, nodes, _ = prompts.tree()
    assert ends(tree, nodes[1]) == [100, 150, 350, 400, 450]
    # Block 2 ends inside the answer; what is new lies evenly behind 150 tokens, with 120 to a block.
    assert ends(tree, nodes[2]) == [100, 150, 390, 450]
    assert tree.path(nodes[2])[:2] == tree.path(nodes[1])[:2]


def test_short_prompts_are_gone_on_from_too() -> None:
    prompts = ContinuedPrompts()
    prompts.add(ids(), 0.5, 50, 20)
    prompts.continues[prompts.add(ids(), 0.9, 90, 5)] = 0
    prompts.continues[prompts.add(ids(6), 1.5, 150, 5)] = 1
    tree, nodes, _ = prompts.tree()
    assert ends(tree, nodes[2]) == [50, 70, 90, 95, 100, 150]


def test_rests_of_one_name_are_one() -> None:
    prompts = ContinuedPrompts()
    for row, rest in enumerate((5, 5, 6, None)):
        prompts.add(ids(1), 1.5, 150, 3)
        if rest is not None:
            prompts.rest_ids[row] = rest
    _, nodes, _ = prompts.tree()
    assert nodes[0] == nodes[1]
    assert len(set(nodes)) == 3


def test_what_all_prompts_have_behind_a_block_is_shared() -> None:
    prompts = ContinuedPrompts()
    for blocks in (ids(1, 2), ids(1, 3), ids(1)):
        prompts.add(blocks, len(blocks) + 0.5, 100 * len(blocks) + 50, 3)
    assert list(prompts.shared_tokens()) == [0, 100, 100]
    prompts.extras = {prompts.ends[2]: 30}
    tree, nodes, _ = prompts.tree()
    assert [ends(tree, node) for node in nodes] == [
        [100, 130, 200, 250],
        [100, 130, 200, 250],
        [100, 130, 150],
    ]
    assert len({tree.path(node)[1] for node in nodes}) == 1


def test_any_lengths_make_a_tree_in_which_each_prompt_has_its_tokens() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        prompts = ContinuedPrompts()
        chains: list[list[int]] = [[]]
        fresh = 0
        for row in range(chance.randrange(1, 40)):
            chain = list(chance.choice(chains))
            chain = chain[: chance.randrange(len(chain) + 1)] if chance.random() < 0.4 else chain
            for _ in range(chance.randrange(4)):
                fresh += 1
                chain.append(fresh)
            chains.append(chain)
            # Counts of tokens have nothing to do with each other, as after a change of tokenizer.
            length = len(chain) + chance.random()
            prompts.add(array("q", chain), length, chance.randrange(1, 400), chance.randrange(1, 100))
            if row:
                prompts.continues[row] = chance.randrange(-1, row)
            prompts.extras[prompts.ends[row]] = chance.randrange(1, 50)
        tree, nodes, answers = prompts.tree()
        assert [tree.ends[node] for node in nodes] == list(prompts.tokens), f"seed {seed}"
        for row, (node, answer) in enumerate(zip(nodes, answers, strict=True)):
            if answer != node:
                assert tree.parents[answer] == node
                assert tree.ends[answer] - tree.ends[node] == prompts.output_tokens[row]
