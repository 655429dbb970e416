"""`simulator serve`: simulated engines behind HTTP, in real time.

The map, in the order of a request's way:

    http       a small HTTP/1.1 server on one asyncio protocol: framing, keep-alive, disconnects
    worker     one worker: routes a request to a dialect or an operator endpoint, checks key and model
    operations what answers at once: health, models, tokens, caches, faults
    dialects/  one pure module per API shape: body in, prompt out; tokens in, answer bytes out
    tokens     text as tokens without a tokenizer; the words that a simulated model answers with
    generation one answer on its way: engine events become bytes on the connection
    driver     real time for the engine: one timer, events dispatched to whoever waits
    kv_events  --kv-events: what a cache holds, published over ZeroMQ; old batches for who asks
    kv_wire    how vLLM and SGLang say that
    clock      engine time as a multiple of real time (`--speed`, the fault `slow`)
    faults     what can be broken on purpose
    reports    /metrics in vLLM's or SGLang's names, /__state, /v1/loads
    app        all workers of one process: listen, announce, wait for a signal, stop
"""
