"""Traces: what was asked for, when, and which prompts begin alike.

`prompts.PromptTree` holds the prompts, `trace.Trace` the requests, a row each. `formats.read_trace` reads a
file of any known format; a reader per format (`mooncake`, `bailian`, `agentic`, `tables`, `texts`,
`vllm_bench`, `chunks`, `journal`) turns a `source.Source` into a trace and knows nothing of the others.
`chains` and `continued` make trees of lists of block ids, `checks` looks over what was read.
"""
