"""A script for a worker that keeps what it creates in memory: responses, conversations, files, batches."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from live.fake_worker import Call

_PREFIXES = {
    "/v1/responses": "resp_",
    "/v1/conversations": "conv_",
    "/v1/files": "file-",
    "/v1/batches": "batch_",
}

_NUMBERS = itertools.count()
"""No id stands for two things, whichever memory they are in."""


@dataclass
class Memory:
    """State: what was created and not deleted, by its path."""

    name: str
    things: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(self, call: Call) -> None:
        method = call.line.split(" ")[0]
        path, _, query = call.path.partition("?")
        if path in _PREFIXES and method == "POST":
            self._create(call, path)
        elif path in _PREFIXES:
            things = [thing for key, thing in self.things.items() if key.startswith(path)]
            call.answer(json.dumps({"object": "list", "data": things, "has_more": False}).encode())
        else:
            key = "/".join(path.split("/")[:4])
            thing = self.things.get(key)
            if thing is None:
                call.answer(b'{"error": {"message": "not here"}}', 404)
            elif method == "DELETE" and key == path:
                del self.things[key]
                call.answer(json.dumps({"id": thing["id"], "deleted": True, "worker": self.name}).encode())
            elif "stream=true" in query:
                call.stream()
                for number in range(3):
                    call.chunk(b"data: %d\n\n" % number)
                call.end()
            else:
                call.answer(json.dumps(thing | {"asked": path}).encode())

    def _create(self, call: Call, path: str) -> None:
        body = json.loads(call.body)
        uses = body.get("previous_response_id"), body.get("conversation"), body.get("input_file_id")
        for name in filter(None, uses):
            if not any(key.endswith("/" + name) for key in self.things):
                call.answer(b'{"error": {"message": "unknown here"}}', 404)
                return
        number = next(_NUMBERS)
        name = f"{_PREFIXES[path]}{self.name}-{number}"
        thing = {"id": name, "created_at": number, "worker": self.name}
        self.things[f"{path}/{thing['id']}"] = thing
        if not body.get("stream"):
            call.answer(json.dumps(thing).encode())
            return
        call.stream()
        for kind in ("created", "completed"):
            event = {"type": f"response.{kind}", "response": thing}
            text = f"event: response.{kind}\ndata: {json.dumps(event)}\n\n".encode()
            for at in range(0, len(text), 25):
                call.chunk(text[at : at + 25])
        call.end()
