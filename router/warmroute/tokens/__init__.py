"""A prompt's token ids, as the engine will compute them: with them, and with what engines tell of their
caches, how much of a prompt a worker holds is known and not believed (docs/exact-mode.md).

    service         between parsing and routing: at once where that is cheap, else in a thread or by asking
    asked           what a body says of its prompt, and why that may not do
    vllm_rules      what vLLM makes of a chat before its template gets it
    sglang_rules    what SGLang does
    rules           what both have in common
    templates       chat templates, as `transformers` renders them
    fields          reading messages' fields in templates
    vocabulary      text to token ids, and where text may be cut
    model           all of it, whole or going on from an earlier turn
    standins        messages that stand in for those of earlier turns
    turns           a turn's text behind an earlier one's end, filled into a form or rendered
    forms           what a template writes around a turn's texts
    learning        how that is learned
    memory          where earlier prompts ended
    told            token ids as chains of block ids
    jobs            one prompt to be told, by its kind
    loading         a model's tokenizer from its files
    by_engine       asking an engine for a prompt's tokens
    counts          what is counted
    start           what the settings name, when the router starts
"""
