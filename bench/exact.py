"""What exact mode adds to a decision: the turns of long sessions, with tokens and without, in turn.

    .venv/bin/python bench/exact.py                      a vocabulary of 100,000 is trained first, a minute
    .venv/bin/python bench/exact.py --tokenizer FOLDER   a model's own
    .venv/bin/python bench/exact.py --template chatml    another of tests/tokens/templates

What is measured. Sessions of `--tokens` tokens of this machine's Python sources as an agent's conversation,
each turn of which adds `--growth` tokens: an answer with a call, its result, a question now and then. Each
turn is decided twice, with tokens and without them (parsing, identifying, telling, routing, and finishing,
sockets left out), once the one and once the other first; workers hold what they were sent. Then the parts of
it one by one, and how long the loop is held up while a thread does a prompt of 128,000 tokens.

What comes of it: a table on stdout. The budget is 300 µs at the 99th percentile for what tokens add to a
turn of a session of 100,000 tokens that grew by 1,000.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, thread_time
from types import SimpleNamespace
from typing import Any, cast

from warmroute.app import SWITCH_INTERVAL_S, build
from warmroute.compiled import is_compiled
from warmroute.config import Settings
from warmroute.dialects import openai
from warmroute.exchange import Exchange
from warmroute.gateway import Gateway
from warmroute.malloc import keep_large_buffers
from warmroute.tokens import asked
from warmroute.tokens.jobs import ChatJob
from warmroute.tokens.loading import load
from warmroute.tokens.model import TokenModel
from warmroute.tokens.service import Tokens
from warmroute.tokens.vllm_rules import VLLM
from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.known import BlockChange
from warmroute_policies.types import Outcome, RoutingRequest, Usage

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / "tests/tokens/templates"

# As Llama 3 and GPT-4 split text.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="a model's folder or tokenizer.json")
    parser.add_argument(
        "--template", default="tagged_tools", metavar="NAME", help="of tests/tokens/templates"
    )
    parser.add_argument(
        "--tokens", type=int, default=100_000, metavar="N", help="of a session when it begins"
    )
    parser.add_argument("--growth", type=int, default=1000, metavar="N", help="tokens that a turn adds")
    parser.add_argument("--sessions", type=int, default=12, metavar="N")
    parser.add_argument("--turns", type=int, default=50, metavar="N", help="of each session")
    parser.add_argument("--workers", type=int, default=8, metavar="N")
    parser.add_argument("--block", type=int, default=16, metavar="N", help="tokens of an engine's block")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.tokenizer or trained(Path(made))
        template = (TEMPLATES / f"{options.template}.jinja").read_text()
        (Path(made) / "with_template").mkdir()
        model = load(with_template(folder, template, Path(made) / "with_template"))
    print(f"compiled: {is_compiled()}; fast library: {model.vocabulary.quick}; seed {options.seed}")
    asyncio.run(measure(model, options))
    return 0


def sources() -> Iterator[str]:
    """Python sources, the same in the same order every time."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        try:
            yield path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue


def trained(folder: Path) -> Path:
    """A vocabulary of 100,000, of the sources on this machine."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    kept = ROOT / "build/exact/tokenizer.json"
    if not kept.exists():
        print("training a vocabulary …", flush=True)
        tokenizer = Tokenizer(models.BPE(ignore_merges=True))
        parts = [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=100_000, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(sources(), trainer)
        special = json.loads((ROOT / "tests/tokens/tiny/tokenizer.json").read_text())["added_tokens"]
        tokenizer.add_special_tokens(
            [AddedToken(one["content"], special=True, normalized=False) for one in special]
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(kept), pretty=False)
    (folder / "tokenizer.json").write_bytes(kept.read_bytes())
    return folder


def with_template(source: Path, template: str, folder: Path) -> Path:
    """The tokenizer with another template."""
    home = source if source.is_dir() else source.parent
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (home / name).exists():
            (folder / name).write_bytes((home / name).read_bytes())
    (folder / "chat_template.jinja").write_text(template)
    return folder


class Session:
    """An agent's conversation that grows."""

    def __init__(self, chance: random.Random, texts: str, chars_per_token: float) -> None:
        self._chance = chance
        self._texts = texts
        self._chars_per_token = chars_per_token
        self.messages: list[dict[str, Any]] = [
            {"role": "system", "content": self._text(2000)},
            {"role": "user", "content": self._text(500)},
        ]
        self._calls = 0

    def _text(self, tokens: int) -> str:
        chars = int(tokens * self._chars_per_token)
        at = self._chance.randrange(len(self._texts) - chars)
        return self._texts[at : at + chars]

    def grow(self, tokens: int) -> None:
        """A turn: an answer, and what comes back."""
        if self._chance.random() < 0.2:
            self.messages += [
                {"role": "assistant", "content": self._text(tokens // 2)},
                {"role": "user", "content": self._text(tokens - tokens // 2)},
            ]
            return
        self._calls += 1
        name = f"call{self._calls:05d}"
        arguments = json.dumps({"path": "src/main.py", "text": self._text(tokens // 4)})
        call = {"id": name, "type": "function", "function": {"name": "edit", "arguments": arguments}}
        self.messages += [
            {"role": "assistant", "content": self._text(tokens // 8), "tool_calls": [call]},
            {"role": "tool", "content": self._text(tokens - tokens * 3 // 8), "tool_call_id": name},
        ]

    def body(self) -> bytes:
        return json.dumps(
            {"model": "m", "messages": self.messages, "stream": True, "max_tokens": 500, "temperature": 0.2}
        ).encode()


def gateway_of(workers: int, block: int, model: TokenModel | None) -> Gateway:
    """A router that serves nobody, in front of workers that tell what they hold."""
    backends = [f"http://10.0.0.{number}:8000" for number in range(1, workers + 1)]
    gateway = build(Settings(backend=tuple(backends), policy="cache_aware"))
    for backend in backends:
        gateway.balancer.set_health(backend, True, perf_counter())
        if model is not None:
            gateway.balancer.know_blocks(backend, 0, block, complete=True, now=perf_counter())
    if model is not None:
        gateway.tokenizing = gateway.tokens = Tokens(gateway, {"": model}, asks=False)
    return gateway


class Turn:
    """One request's way to its decision, as `Exchange` goes it."""

    def __init__(self, gateway: Gateway, body: bytes, number: int) -> None:
        self.gateway = gateway
        self.body = body
        self.number = number
        self.parse = openai.chat
        self.parsed = openai.chat(b'{"messages":[]}')
        self.owner = None
        self.connecting: asyncio.Task[None] | None = None
        self.told_tokens = 0
        self.went_on = False
        self.telling_s = self.routing_s = 0.0
        self.plan = SimpleNamespace(head=SimpleNamespace(fields=()))
        self.request: RoutingRequest | None = None
        self.later: asyncio.Future[RoutingRequest] | None = None

    def decide(self) -> bool:
        """Whether it was decided at once."""
        me = cast(Exchange, self)
        self.parsed = parsed = self.parse(self.body)
        gateway = self.gateway
        blocks = PromptBlocks(parsed.material, gateway.salt(parsed.model, parsed.cache_salt))
        request = RoutingRequest(
            self.number, parsed.model, blocks, None, parsed.max_tokens, parsed.session, stream=parsed.stream
        )
        tokens = self.gateway.tokens
        began = perf_counter()
        if tokens is not None:
            told = tokens.tell(me, request)
            if told is None:
                return False
            request = told
        self.request = request
        told_at = perf_counter()
        self.gateway.route(request, told_at)
        self.telling_s, self.routing_s = told_at - began, perf_counter() - told_at
        return True

    def told(self, request: RoutingRequest) -> None:
        self.request = request
        self.gateway.route(request, perf_counter())
        if self.later is not None:
            self.later.set_result(request)

    def finish(self) -> None:
        """The engine answers, and tells what it holds now."""
        request = self.request
        assert request is not None
        balancer, now = self.gateway.balancer, perf_counter()
        if request.exact is not None:
            for run in request.exact.runs.values():
                balancer.blocks_changed(self.worker, 0, (BlockChange(True, 0, run),), now)
        balancer.finish(request.request_id, Outcome.OK, Usage(request.prompt_tokens, 100, None), now)

    worker = ""


async def measure(model: TokenModel, options: argparse.Namespace) -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # both as the router does when it starts
    keep_large_buffers()
    texts = "\n".join(sources())
    chance = random.Random(options.seed)
    sample = texts[:400_000]
    chars_per_token = len(sample) / (len(model.vocabulary.ids(sample)) / 4)
    both = [
        ("believed", gateway_of(options.workers, options.block, None)),
        ("exact", gateway_of(options.workers, options.block, model)),
    ]
    sessions: list[Session] = []
    for _ in range(options.sessions):
        session = Session(chance, texts, chars_per_token)
        for _ in range(max(0, options.tokens - 2500) // 2000):
            session.grow(2000)
        sessions.append(session)
    gc.collect()
    gc.freeze()
    gc.disable()
    times: dict[str, list[float]] = {name: [] for name, _ in both}
    cpu: dict[str, list[float]] = {name: [] for name, _ in both}
    told_s: list[float] = []
    routed_s: list[float] = []
    number, waited, lengths = 0, 0, []
    parts = Parts(model, options.block)
    for turn in range(options.turns + 1):
        for session in sessions:
            session.grow(options.growth)
            body = session.body()
            for name, gateway in both if chance.random() < 0.5 else reversed(both):
                number += 1
                way = Turn(gateway, body, number)
                way.worker = next(iter(gateway.workers))
                began, began_cpu = perf_counter(), thread_time()
                at_once = way.decide()
                took, took_cpu = perf_counter() - began, thread_time() - began_cpu
                if at_once and turn > 0:
                    cpu[name].append(took_cpu)
                    if name == "exact":
                        told_s.append(way.telling_s)
                        routed_s.append(way.routing_s)
                if not at_once:
                    way.later = asyncio.get_running_loop().create_future()
                    await way.later
                    waited += turn > 0
                elif turn > 0:
                    times[name].append(took)
                if name == "exact":
                    lengths.append(way.told_tokens)
                way.finish()
            if turn > 0:
                parts.measure(body)
    grown = f"{min(lengths)} to {max(lengths)} tokens"
    print(f"{len(times['exact'])} turns of {grown}; {waited} waited for a thread")
    for name, _ in both:
        print(row(f"decision, {name}", times[name]))
        print(row("  of the processor's time", cpu[name]))
    print(row("  exact: telling", told_s))
    print(row("  exact: routing", routed_s))
    for what, taken in (("what tokens add", times), ("  of the processor's time", cpu)):
        pairs = zip(taken["exact"], taken["believed"], strict=False)
        print(row(what, [exact - believed for exact, believed in pairs]))
    parts.show()
    tokens = both[1][1].tokens
    assert tokens is not None
    print(
        f"memory: {len(tokens.memory)} places, {tokens.memory.bytes / len(tokens.memory) / 1e3:.1f} kB each"
    )
    print(f"told: {tokens.counts.told}, untold: {sum(tokens.counts.untold.values())}")
    await lag(model, options, texts, chars_per_token)
    tokens.close()


class Parts:
    """The parts of a turn's telling, each by itself."""

    def __init__(self, model: TokenModel, block: int) -> None:
        self._model = model
        self._sizes = (block,)
        self._times: dict[str, list[float]] = {}
        self._memory = asked_memory()

    def measure(self, body: bytes) -> None:
        def timed(name: str, work: Callable[[], Any]) -> Any:
            began = perf_counter()
            made = work()
            self._times.setdefault(name, []).append(perf_counter() - began)
            return made

        parsed = openai.chat(body)
        material = parsed.material
        blocks = PromptBlocks(material, 1)
        timed("  coarse chain (done anyway)", blocks.stretch_ids)
        chat, messages = timed("  options of the body", lambda: asked.read_chat(body, material))
        options = self._model.options(chat, VLLM)
        place = timed("  finding the place", lambda: self._memory.find(blocks, material, options, 6))
        job = ChatJob(self._model, self._sizes, 0, chat, material, messages, VLLM, place)
        if place is None:
            told = job.whole(slowly=False)
        else:
            added = timed("  the added JSON", lambda: job._added(place))
            told = timed(
                "  render, tokenize, chain",
                lambda: self._model.onwards(place, chat, added, VLLM, self._sizes, 0, job.cut, slowly=False),
            )
            text = "".join(str(one.get("content")) for one in added)
            timed("    of it tokenizing", lambda: self._model.vocabulary.ids(text))
        assert told is not None
        kept = told.place
        if kept is not None:
            timed("  keeping the place", lambda: self._memory.keep(kept, place, blocks, material))

    def show(self) -> None:
        for name, took in self._times.items():
            print(row(name, took))


def asked_memory() -> Any:
    from warmroute.tokens.memory import Memory

    return Memory(1 << 30)


async def lag(model: TokenModel, options: argparse.Namespace, texts: str, chars_per_token: float) -> None:
    """How late a timer of the loop is while a thread does a long prompt from its beginning."""
    session = Session(random.Random(options.seed + 1), texts, chars_per_token)
    for _ in range(63):
        session.grow(2000)
    body = session.body()
    material = openai.chat(body).material
    chat, messages = asked.read_chat(body, material)
    job = ChatJob(model, (options.block,), 0, chat, material, messages, VLLM, None)
    late: list[float] = []
    took: list[float] = []

    def work() -> None:
        for _ in range(5):
            began = perf_counter()
            job.whole(slowly=True)
            took.append(perf_counter() - began)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        due = perf_counter() + 0.0005
        await asyncio.sleep(0.0005)
        late.append(perf_counter() - due)
    thread.join()
    print(f"a prompt of {len(body) / 1e3:.0f} kB in a thread: {statistics.median(took) * 1e3:.1f} ms")
    print(row("the loop is late by", late))


def row(name: str, took: list[float]) -> str:
    """A line of the table."""
    ordered = sorted(took)
    cells = [
        f"{word} {ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6:8.1f}"
        for word, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1))
    ]
    return f"{name:30} {'  '.join(cells)} µs"


if __name__ == "__main__":
    sys.exit(main())
