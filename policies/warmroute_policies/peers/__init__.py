"""Other routers' rules, each as its authors publish it: what `cache_aware` is compared with on equal terms.

    sglang_cache_aware             one worker that was sent enough of the prompt, while the fleet is balanced
    smg_spill                      what smg made of it: several holders, each let go when it is too busy
    ray_prefix_affinity            who was sent the longest prefix, else who was sent least (Ray Serve LLM)
    llmd_weighted                  the highest sum of scores for queue, KV usage and prefix
    vllm_router_kv                 the least product of uncached tokens and requests in flight
    lmetric                        the same product where it comes from, and as it was published
    preble                         a holder if most of the prompt is known, else load and evictions (E2)
    preble_load                    its load: what the requests of three minutes cost each worker
    preble_caches                  its virtual caches: what an eviction makes others compute again
    preble_balance                 its moves of heavy prefixes between workers
    preble_tree                    what it knows of each stretch of prompts
    dynamo_kv                      the least sum of pages to prefill and pages in use
    llmd_sticky_until_saturated    a holder of most of the prompt, until others are 18 s sooner
    least_prefill_work             the fewest uncached prompt tokens waiting, its own included (LPWL)

    block_tree       prompts as a radix tree over block ids
    tenant_tree      the same with the workers that each prompt was sent to
    llmd_index       llm-d's approximate index: which server it takes to hold how much of a prompt
    recent_blocks    what each server was sent last, one LRU of blocks per server
    timed_blocks     what each worker was sent within a time to live
    active_blocks    what the requests in flight occupy, shared blocks once
    prefill_work     the prefill before a first token, by the fleet's books and the believed hits
    books            what waits for its first token, by a rule's own estimate
    declared         what engines say of their caches, where only a slot is at hand
    lengths          tokens of a prompt and of a block, where only the request is at hand

A module of a rule opens with its formula, the project, file and version that it follows, and what stands for
signals that are polled or pushed there. A rule keeps what it knows in its own way: an index with the size,
the grain and the flaws of the original, and its own books of what it sent where. Its configuration stands
beside it, with the defaults that were published. The originals take all workers to be alike, so weights are
ignored, except where a rule says otherwise.
"""
