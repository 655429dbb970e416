"""Made-up traces: seeded, of any size, with the prefixes, sessions and pauses of typical traffic.

The map:

    registry       `generate("NAME[:param=value,...]", seed)`: the way in
    shared_prefix  groups of prompts that begin alike
    chat           conversations of several turns
    agents         loops of a model and its tools, with sub-agents and summaries
    rag            documents of a common stock in front of each question
    uniform        nothing in common
    mix, mix_file  several of these in one trace
    workload       what they have in common: rates, limits, parameters
    lengths        distributions of tokens, turns and seconds, and their textual form
    popularity     which of many, by Zipf's law
    catalogue, spec, order   by name; the textual form; sorting rows and numbering sessions
    summary        what a trace holds and how much of it could be reused

A generator writes rows and nodes directly, 50 to 60 bytes a request: a million requests take seconds.
"""
