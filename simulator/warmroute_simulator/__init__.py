"""Engines without GPUs: a model of an inference engine, and what drives it.

The map:

    engine/   one worker as a pure object: queue, chunked prefill, continuous batch, paged prefix cache.
              No clock, no I/O: time is an argument, answers are events
    serve/    `simulator serve`: that engine behind HTTP, in real time, in the engines' own API shapes
    cli       the `simulator` command

The package knows nothing of the router; both meet only in `warmroute_policies`.
"""
