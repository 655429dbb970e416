"""Other routers' rules, on this router's fleet and clock: what `cache_aware` is compared with.

Each module opens with its rule, the project, file and version that it follows, the formula, and what stands
for signals that are polled or pushed there. A rule's configuration has the defaults that were published
with it, and stands beside it. What a rule gets wrong is kept where it matters to its result.

    least_prefill_work     the fewest uncached prompt tokens waiting, its own included (LPWL)
"""
