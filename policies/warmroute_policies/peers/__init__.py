"""Other routers' rules, on this router's fleet and clock: what `cache_aware` is compared with.

Each module opens with its rule, the project, file and version that it follows, the formula, and what stands
for signals that are polled or pushed there. A rule's configuration has the defaults that were published
with it, and stands beside it. What a rule gets wrong is kept where it matters to its result.

    least_prefill_work     the fewest uncached prompt tokens waiting, its own included (LPWL)
    sglang_cache_aware     one worker that was sent enough of the prompt, while the fleet is balanced
    smg_spill              what smg made of it: several holders, each let go when it is too busy
    vllm_router_kv         the fewest uncached prompt tokens times requests in flight
    ray_prefix_affinity    who was sent the longest prefix, else who was sent least (Ray Serve LLM)
    preble                 a holder if most of the prompt is known, else load and evictions (Preble's E2)
    preble_load            its load: what the requests of three minutes cost each worker
    preble_caches          its virtual caches: what an eviction makes others compute again
    preble_balance         its moves of heavy prefixes between workers
    preble_tree            what it knows of each stretch of prompts

    block_tree             prompts as a radix tree over block ids
    tenant_tree            the same with the workers that each prompt was sent to
    active_blocks          the KV blocks that prompts in flight use, each counted once
    prompt_tokens          a prompt's length, where no view says it
"""
