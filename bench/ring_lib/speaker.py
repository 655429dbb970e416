"""A Dynamo worker for each URL, which passes requests on to the engine there. Run by Dynamo's interpreter.

    speaker.py MODEL MODEL_FOLDER BLOCK_TOKENS URL...

A token of Dynamo's stands for a word of four bytes, and such a word is a token of the engine's: ids are
translated one by one, both ways. All workers are in one process, each with a runtime of its own, as Dynamo
takes two instances of one runtime for the same worker.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from dynamo._core import WorkerType
from dynamo.llm import ModelInput, ModelRuntimeConfig, ModelType, register_model
from dynamo.runtime import DistributedRuntime

TOKEN_BYTES = 4


class Speaker:
    """State: kept connections to one engine."""

    def __init__(self, url: str, model: str, words: dict[str, int], session: aiohttp.ClientSession) -> None:
        self._url, self._model, self._session = url, model, session
        self._ids = words
        self._codes = {number: _code(text) for text, number in words.items()}

    async def generate(self, request: dict[str, Any], context: Any = None) -> AsyncIterator[dict[str, Any]]:
        """One request in token ids, its answer as they come."""
        prompt = [self._codes[number] for number in request["token_ids"]]
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": request["stop_conditions"]["max_tokens"],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        usage = None
        reason = None
        async with self._session.post(f"{self._url}/v1/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    reason = choice["finish_reason"] or reason
                    ids = [self._ids[word] for word in choice["text"].split()]
                    if ids:
                        yield {"token_ids": ids}
        yield {"token_ids": [], "finish_reason": reason or "length", "completion_usage": usage}


def _code(text: str) -> int:
    """The engine's token for a word or a marker."""
    return int.from_bytes(f"{text} ".encode()[:TOKEN_BYTES], "little")


async def _serve(url: str, model: str, folder: Path, block_tokens: int, words: dict[str, int]) -> None:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    ) as session:
        runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
        endpoint = runtime.endpoint("dynamo.backend.generate")
        about = ModelRuntimeConfig()
        about.context_length = 131_072
        async with session.get(f"{url}/metrics") as page:
            info = next(line for line in (await page.text()).splitlines() if "cache_config_info{" in line)
        about.total_kv_blocks = int(info.partition('num_gpu_blocks="')[2].partition('"')[0])
        about.kv_event_publishing_enabled = False
        await register_model(
            ModelInput.Tokens,
            ModelType.Chat,
            endpoint,
            str(folder),
            model,
            worker_type=WorkerType.Aggregated,
            kv_cache_block_size=block_tokens,
            runtime_config=about,
        )
        await endpoint.serve_endpoint(Speaker(url, model, words, session).generate, graceful_shutdown=False)


async def _main(model: str, folder: Path, block_tokens: int, urls: list[str]) -> None:
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    await asyncio.gather(*(_serve(url, model, folder, block_tokens, words) for url in urls))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
