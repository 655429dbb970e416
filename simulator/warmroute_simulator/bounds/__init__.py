"""What no router can beat: bounds on hits, time to first token and goodput, for one sequence of requests.

    pages      a trace as an engine's cache sees it: stretches of whole pages, touched from the root on
    touches    one sequence of requests: of every page that comes again, when it was touched before
    infinite   U1: one cache of endless size
    pooled     U2: one cache of all workers' size, evicted as well as can be (Belady), and U2′: by LRU
    hits       the three together, as they stand beside a result
    replay     N caches and a given routing, without time: what U1 and U2′ become when the pool is split
    prefill    how long an engine computes: alone on an idle one, and at the very least in any batch
    floor      U3: time to first token of each request, alone on an idle worker, after the hits of U1
    server     U4: one server as fast as all workers: the mean time to first token, and goodput
    goodput    U4: of requests for one server, as many as can be in time

All hold for a fixed sequence of requests. Open loop has one. In a closed loop the sequence depends on the
policy: take the one that the run under judgement left behind (`Records.admitted`).
"""
