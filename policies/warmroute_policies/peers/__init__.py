"""The rules of other routers, each as its authors publish it, to be compared with on equal terms.

    llmd_sticky_until_saturated    a holder of most of the prompt, until others are 18 s sooner
    llmd_weighted                  the highest sum of scores for queue, KV usage and prefix
    lmetric                        the least product of uncached tokens and requests in flight
    dynamo_kv                      the least sum of pages to prefill and pages in use

    llmd_index       llm-d's approximate index: which server it takes to hold how much of a prompt
    recent_blocks    what each server was sent last, one LRU of blocks per server
    timed_blocks     what each worker was sent within a time to live
    active_blocks    what the requests in flight occupy, shared blocks once
    books            what waits for its first token, by a rule's own estimate
    declared         what engines say of their caches, where only a slot is at hand
    lengths          tokens of a prompt and of a block, where only the request is at hand

A rule keeps what it knows in its own way: an index with the size, the grain and the flaws of the original,
and its own books of what it sent where. Published defaults stand beside their source. Where the original
polls its engines for what no policy here can see, the rule's docstring says what stands for it. The
originals take all workers to be alike, so weights are ignored.
"""
