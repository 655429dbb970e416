"""The decision core: values in, decisions out.

No I/O, no clock, no await, no logging, no globals: the live router drives it with real time, the
simulator with virtual time, and both run the same code. The map, in the order of a request's way:

    types       the values that pass in and out: RoutingRequest, Decision, Usage, Outcome, WorkerSpec
    values      what the structs of compiled modules derive from
    errors      what can go wrong, and whose fault it is
    blocks      a prompt's identity: a chain of block ids at two resolutions
    index       which worker is believed to hold which prefix
    capacity    how much each worker's KV cache is believed to hold, corrected by what engines report
    hits        what each worker is believed to hold of one prompt, in tokens
    latency     how long a prefill takes; measured presets
    fleet       the worker table and the work in flight on each worker
    pools       which workers serve a model and may take a request now
    beliefs     all that is believed of workers: what a prompt meets there, and what answers teach
    balancer    the one object that owns all of this: route, reroute, first_token, finish
    policy      what a policy is; `algorithms` holds those that are built in
    succession  what a policy is told that takes over while requests are in flight
    chance      draws that leave no trace, so that `decide` only reads
    registry    the built-in policies by name; `parameters` turns text into their parameters, `plugins`
                finds those of third parties
    sessions    who came where before, and whether they will return
    config      parameters and their defaults
    admission/  who waits for room, in which order; rates
    resilience  when to stop trusting a worker, how often to try again; `outliers` who is worse than the rest,
                `slow_start` how a new one is warmed up
    keeping     what is believed, as bytes for the next router
    events      every input of a balancer as a value, the lines of a journal
    journal     recording them; `pseudonym` keeps clients' session ids out of it
    replay      playing them again, exactly
    conformance `check_policy`, the test kit for a policy of your own; `rehearsal` is its stage
"""
