"""Latency coefficients and host overhead from what was measured: simulate, compare, adjust, repeat.

measured    requests as they went: arrival, lengths, hits, time to the first and to the last token
rows        such requests from CSV and JSON lines, whatever the columns are called
journals    such requests from the journal of a live router
known_hits  a KV cache in which every request hits what it was measured to hit
replay      the same requests through the simulated engine
agreement   how far the two are apart
parameters  what is adjusted, as numbers that a search may move freely
search      the adjustment: least squares, robust, deterministic, bounded
counters    coarse: vLLM's metrics page before and after, and a made-up run that looks like it
"""
