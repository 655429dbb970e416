"""Exact mode: what vLLM and SGLang publish of their caches (KV events, over ZeroMQ) becomes knowledge.

    wire        what is on the wire, read: frames, batches, events
    ledger      one rank's blocks, by the engine's names and by ours; the core hears what changed
    stream      one publisher's batches in order: gaps, replays, restarts
    sources     where an engine says that it publishes
    sockets     ZeroMQ in the event loop
    publisher   one rank's publisher: what is heard of it, what is asked of it
    worker      one worker: whether its publishers are well, what is known of it
    shared      one line for several engines, told apart by topic
    listener    all workers
    counts      what is counted, and what was odd

Reading, ledgers and streams do no I/O. `sockets` alone knows ZeroMQ, and is imported where it is needed.
docs/exact-mode.md says how to switch it on.
"""
