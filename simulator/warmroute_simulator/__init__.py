"""Replays of traffic through the router's decision core on virtual time, and engines without GPUs.

The map, from the bottom up; imports run downwards only:

    traces/      a trace in memory (one tree of prompts, columns of requests), readers of trace files
    generators/  made-up traces
    engine/      one inference engine as a pure object: queue, two step rules, paged prefix cache
    simulation/  one run: kernel, arrivals, routers, workers, scenarios, and the records it leaves behind
    bounds/      what no router can beat
    report/      from records to numbers, tables, CSV and a page
    study/       many runs: processes, intervals, knees, searches
    fitting/     latency coefficients from measurements
    serve/       `simulator serve`: the engine behind HTTP, in real time, in the engines' own API shapes
    commands/    the `simulator` command, a module for each of its sub-commands; `cli`

The package knows nothing of the live router; both meet only in `warmroute_policies`.
"""
