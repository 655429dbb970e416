"""The routing rules that are built in; each module opens with its rule, its source and its formula.

    random             any worker, in proportion to its weight
    round_robin        each worker in turn
    least_requests     the fewest requests in flight
    power_of_two       the better of two drawn at random
    prefix_hash        the prompt's head names a worker; a busy one hands over to the least busy
    consistent_hash    the session or the prompt's head names a worker; a busy one hands over to its neighbour
    session_sticky     the session's last worker while it is not too busy; a wrapper around any other rule
    cache_aware        the least predicted delay for everybody: the default

    ring               the hash ring of the two hashing rules, and their bound on load
    counts             what the rules that count requests have in common

Weights are honoured wherever requests are counted: a worker of weight 2 is as busy with four requests as
one of weight 1 with two. Only `round_robin` is deaf to them.
"""
