"""What engines say of their load, so that others' requests are seen too (docs/load-signals.md).

numbers     what is a count, and what is none
answers     SGLang's /v1/loads and /get_load, vLLM's /load
gauges      /metrics of vLLM, SGLang and llama.cpp
orca        fields of answers to requests
stat, feed  SGLang's messages by ZeroMQ, and who takes them
sources     where an engine can be asked, and what it does not tell
pace        how often: no more than it bears
polling     one task that asks them all

Readers take any bytes and find what they know; what is absent stays absent. What they find goes to the core,
which knows what of it is the router's own (`policies: foreign`).
"""
