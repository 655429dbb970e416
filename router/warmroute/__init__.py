"""The live proxy: sockets, HTTP, metrics, admin. It drives the decision core with real time.

The map. A process, and what it is told:

    cli             the `router` command; `app` builds everything and runs until it is told to stop
    config/         every setting, where its value came from, and what the core gets of it
    reload          settings and policy change while it runs
    handover        the next router takes the port over; `supervisor` tells systemd
    logs            in lines or JSON; `malloc`, `compiled`: how the process itself runs

A request's way, in its order:

    listen/         doors: TLS, Unix sockets, proxies' heads; `tls` keeps the certificates
    client          a client's connection, on `client_pipe`: framing, one request at a time
    plan            what a head means; `callers` who asks, `wire/` HTTP as bytes
    dialects/       what a body means
    exchange        a request's story, with its way there (`attempts`) and back (`splice`)
    upload, tunnel  two other kinds of exchange
    owners          things that one worker keeps; `owner_search` asks who
    tokens/         prompts as token ids, where engines tell what they hold
    admission       limits, queue and rates; `admission_counts`, `refusals`: what clients are told
    hedging         a second leg for a stream that is late
    receiver        whom an answer is for
    worker, pool    connections to a worker
    taps, inject    who may look at an answer on its way; token counts that a client did not ask for
    usage, counts   token counts in an answer
    gateway         what all connections share

Workers:

    workers         who there is, and who is trusted; `joining`, `removal`
    watch           health and discovery of what they are; `engines` reads it, by `questions`
    kv_events/      what they tell of their caches
    discovery/      which workers there should be; `ranks`: several behind one URL
    fanout          an operator's question to all of them
    load/           what they say of their load, for requests of others

What is kept and shown:

    series          counters on a request's way; `metrics/` the page, `metrics_port` its own port
    observers       who may watch a request: `access_log`, `shadow`, `tracing/`, the live page
    tenures         what was counted under which policy
    hot_prefixes    which prefixes save most
    journal, state  on disk: every input of the core; what it believes. `prices`: what it learned
    audit           who changed what
    control/        everything that is not inference, in FastAPI
    live/, top/     the live page, in a browser and in a terminal
    demo/           all of it at work, on built-in engines
"""
