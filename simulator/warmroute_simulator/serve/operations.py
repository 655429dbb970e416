"""Operator endpoints of one worker, which answer at once: health, metrics, models, tokens, prompts as tokens,
caches, faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import xxhash

from warmroute_simulator.serve import reports, tokens
from warmroute_simulator.serve.dialects import chat, completions, messages
from warmroute_simulator.serve.dialects.base import BadRequest, Call, decode
from warmroute_simulator.serve.faults import FaultSpec
from warmroute_simulator.serve.http import Exchange
from warmroute_simulator.serve.kv_wire import HELD_BATCHES, KEPT_BATCHES

if TYPE_CHECKING:
    from warmroute_simulator.serve.kv_events import Publisher
    from warmroute_simulator.serve.worker import Worker

NOT_FOUND: Final = (404, b'{"detail":"Not Found"}')


class TokenizeBody(msgspec.Struct, frozen=True):
    model: str | None = None
    prompt: str | None = None
    messages: msgspec.Raw = msgspec.Raw()


class DetokenizeBody(msgspec.Struct, frozen=True):
    tokens: list[int]
    model: str | None = None


_TOKENIZE = msgspec.json.Decoder(TokenizeBody)
_DETOKENIZE = msgspec.json.Decoder(DetokenizeBody)
_FAULT = msgspec.json.Decoder(FaultSpec)


def get(worker: Worker, exchange: Exchange) -> None:
    path, sglang = exchange.request.path, worker.settings.kind == "sglang"
    if path in ("/health", "/ping", "/health_generate"):
        fault = worker.faults.on_health
        if fault is None or not worker.broken(exchange, fault):
            exchange.respond(200, b"")
    elif path == "/v1/models":
        exchange.respond(200, msgspec.json.encode(_models(worker)))
    elif path == "/metrics":
        text = reports.sglang_metrics(worker) if sglang else reports.vllm_metrics(worker)
        exchange.respond(200, text, "text/plain; version=0.0.4; charset=utf-8")
    elif path == "/__state":
        exchange.respond(200, msgspec.json.encode(reports.state(worker)))
    elif path == "/version" and not sglang:
        exchange.respond(200, msgspec.json.encode({"version": worker.version}))
    elif path == "/kv_event_sources" and worker.kv_events is not None and not sglang:
        exchange.respond(200, msgspec.json.encode({"0": _event_source(worker.kv_events)}))
    elif path == "/load" and not sglang:
        load = worker.engine.running + worker.engine.waiting
        exchange.respond(200, msgspec.json.encode({"server_load": load}))
    elif path in ("/server_info", "/get_server_info") and sglang:
        exchange.respond(200, msgspec.json.encode(_server_info(worker)))
    elif path == "/v1/loads" and sglang:
        exchange.respond(200, msgspec.json.encode(reports.sglang_loads(worker)))
    else:
        exchange.respond(*NOT_FOUND)


def post(worker: Worker, exchange: Exchange) -> None:
    path, body = exchange.request.path, exchange.request.body
    sglang = worker.settings.kind == "sglang"
    if path in ("/tokenize", "/v1/tokenize"):
        exchange.respond(200, msgspec.json.encode(_tokenize(worker, body)))
    elif path == "/v1/chat/completions/render" and not sglang:
        exchange.respond(200, msgspec.json.encode(_rendered(worker, chat.parse(body))))
    elif path == "/v1/completions/render" and not sglang:
        exchange.respond(200, msgspec.json.encode([_rendered(worker, completions.parse(body))]))
    elif path == "/detokenize":
        asked = decode(body, _DETOKENIZE)
        worker.check_model(asked.model)
        try:
            text = tokens.to_text(tokens.from_ids(asked.tokens))
        except OverflowError:
            raise BadRequest(f"token ids must be 0 to {tokens.MAX_TOKEN_ID}", "tokens") from None
        exchange.respond(200, msgspec.json.encode({"prompt": text}))
    elif path == "/v1/messages/count_tokens":
        model, prompt = messages.count(body)
        worker.check_model(model)
        count = len(prompt) // tokens.TOKEN_BYTES
        exchange.respond(200, msgspec.json.encode({"input_tokens": count}))
    elif path in ("/reset_prefix_cache", "/flush_cache"):
        worker.reset_cache()
        exchange.respond(200, b"")
    elif path == "/__fault":
        exchange.respond(200, msgspec.json.encode(_set_fault(worker, body)))
    else:
        exchange.respond(*NOT_FOUND)


def _set_fault(worker: Worker, body: bytes | bytearray) -> dict[str, object]:
    spec = decode(body, _FAULT)
    problem = spec.problem()
    if problem:
        raise BadRequest(problem)
    target = worker if spec.worker is None else worker.fleet.worker(spec.worker)
    if target is None:
        raise BadRequest(f"there is no worker {spec.worker}", "worker")
    target.set_fault(spec)
    return {"worker": target.index, "fault": spec}


def _tokenize(worker: Worker, body: bytes | bytearray) -> dict[str, object]:
    asked = decode(body, _TOKENIZE)
    worker.check_model(asked.model)
    if asked.prompt is None:
        ids = tokens.to_ids(chat.parse(body).tokens)
    else:
        ids = tokens.to_ids(tokens.pad(asked.prompt.encode()))
    return {
        "count": len(ids),
        "max_model_len": worker.settings.max_model_len,
        "tokens": ids,
        "token_strs": None,
    }


def _rendered(worker: Worker, call: Call) -> dict[str, object]:
    """What vLLM would compute on: routers ask for it to match prompts by their tokens."""
    worker.check_model(call.model)
    return {
        "request_id": f"{call.id_prefix}{xxhash.xxh3_64_hexdigest(call.tokens)}",
        "token_ids": tokens.to_ids(call.tokens),
        "sampling_params": {"max_tokens": call.max_tokens},
        "model": call.model or worker.model,
        "stream": call.stream,
        "cache_salt": call.salt or None,
    }


def _models(worker: Worker) -> dict[str, object]:
    model = {
        "id": worker.model,
        "object": "model",
        "created": 0,
        "owned_by": worker.settings.kind,
        "root": worker.model,
        "parent": None,
        "max_model_len": worker.settings.max_model_len,
    }
    return {"object": "list", "data": [model]}


def _server_info(worker: Worker) -> dict[str, object]:
    config = worker.settings.engine
    info: dict[str, object] = {
        "model_path": worker.model,
        "served_model_name": worker.model,
        "version": worker.version,
        "page_size": config.block_tokens,
        "max_total_num_tokens": config.capacity_blocks * config.block_tokens,
        "max_running_requests": config.max_num_seqs,
        "chunked_prefill_size": config.step_tokens,
        "context_length": worker.settings.max_model_len,
    }
    if worker.kv_events is not None:
        live, replay = worker.kv_events.ports
        info["kv_events"] = {
            "publisher": "zmq",
            "endpoint_host": "*",
            "endpoint_port_base": live,
            "replay_endpoint_port_base": replay,
            "topic": "",
            "block_size": config.block_tokens,
            "dp_size": 1,
        }
    return info


def _event_source(publisher: Publisher) -> dict[str, object]:
    """An engine's own flag: with the wildcard, which to a router is the host of the worker's URL."""
    live, replay = publisher.ports
    return {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": f"tcp://*:{live}",
        "replay_endpoint": f"tcp://*:{replay}",
        "buffer_steps": KEPT_BATCHES,
        "hwm": HELD_BATCHES,
        "max_queue_size": HELD_BATCHES,
        "topic": "",
    }
