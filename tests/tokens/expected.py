"""What the engines make of the table's chats, written down where they are, compared where they are not.

    WARMROUTE_VLLM_PYTHON=… WARMROUTE_SGLANG_PYTHON=… .venv/bin/python tests/tokens/expected.py

writes tests/tokens/expected.json: for each engine, template and chat the number of tokens and a hash of them,
or null where the engine refuses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from xxhash import xxh3_64_hexdigest

from tokens.conversations import TABLE, Body
from tokens.oracles import SGLANG, TEMPLATES, VLLM, ask
from warmroute_policies.kv_blocks import pack_tokens

FILE = Path(__file__).parent / "expected.json"
ENGINES = {"vllm": VLLM, "sglang": SGLANG}

# A template that writes the date says the same every day if it is told one.
_DATED = {"headers": {"date_string": "26 Jul 2024"}}


def questions() -> list[tuple[str, str, Body]]:
    """Template, name and request."""
    made = []
    for template in TEMPLATES:
        for name, body in TABLE.items():
            given = {**_DATED.get(template, {}), **(body.get("chat_template_kwargs") or {})}
            made.append((template, name, {**body, "chat_template_kwargs": given} if given else body))
    return made


def digest(ids: list[int] | None) -> list[object] | None:
    return None if ids is None else [len(ids), xxh3_64_hexdigest(pack_tokens(ids))]


def main() -> None:
    asked = questions()
    document = {}
    for engine, oracle in ENGINES.items():
        answers = ask(oracle, [(template, body) for template, _, body in asked])
        assert answers is not None, f"{oracle[0]} names no interpreter"
        document[engine] = {
            f"{template}: {name}": digest(ids)
            for (template, name, _), ids in zip(asked, answers, strict=True)
        }
    lines = [
        f"  {json.dumps(engine)}: {{\n"
        + ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())
        + "\n  }"
        for engine, table in document.items()
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
