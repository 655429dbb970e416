"""Plays the sessions against a URL: each starts at its time and then runs in a closed loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from warmroute.demo.client import Client, Failed
from warmroute.demo.tally import Tally
from warmroute.demo.traffic import Session, Turn


async def play(sessions: Sequence[Session], client: Client, tally: Tally) -> None:
    """Writes the tally. Ends when the last session has; a session ends early at its first failure."""
    async with asyncio.TaskGroup() as group:
        for session in sessions:
            group.create_task(_play_one(session, client, tally))


async def _play_one(session: Session, client: Client, tally: Tally) -> None:
    await asyncio.sleep(session.starts_at_s)
    messages = [{"role": "system", "content": session.system}] if session.system else []
    left = session.requests
    for turn in session.turns:
        if turn.pause_s:
            await asyncio.sleep(turn.pause_s)
        messages.append({"role": turn.role, "content": turn.text})
        left -= max(1, len(turn.branches))
        answer = await _play_turn(session, turn, messages, client, tally, left)
        if answer is None:
            return
        messages.append({"role": "assistant", "content": answer})


async def _play_turn(
    session: Session, turn: Turn, messages: list[dict[str, str]], client: Client, tally: Tally, left: int
) -> str | None:
    """The answer, or all branches' answers; None after a failure."""
    prompts = [[*messages, {"role": "user", "content": branch}] for branch in turn.branches] or [messages]
    answers = await asyncio.gather(*(_ask(session, turn, prompt, client, tally) for prompt in prompts))
    failures = [why for text, why in answers if text is None]
    if failures:
        for number, why in enumerate(failures):
            tally.failed(why, left if number == 0 else 0)
        return None
    return " ".join(text for text, _ in answers if text is not None)


async def _ask(
    session: Session, turn: Turn, messages: list[dict[str, str]], client: Client, tally: Tally
) -> tuple[str | None, str]:
    try:
        answer = await client.chat(messages, session.tools, turn.answer_tokens, session.name)
    except Failed as failure:
        return None, str(failure)
    tally.answered(answer)
    return answer.text, ""
