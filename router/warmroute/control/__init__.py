"""The control plane: everything that is not inference, in FastAPI, on the same port.

api       the application and its list of endpoints
health    /health, /liveness, /readiness, /metrics
models    /v1/models
workers   /workers: list, add, change, drain, remove
fleet     PUT and PATCH /workers: many at once
admission whether a worker may be added at all
views     a worker as people see it
policy    /policy: which rule decides, changed under load
reloading POST /reload: the configuration read again
engines   /flush_cache, profilers: what all engines are told
engine_metrics  /engine_metrics: all engines' metrics as one page
peers     other routers' names for some of this
dryrun    POST /route: where would this request go, and why
debug     /debug/state
live      /live/snapshot, /live/events
page      /ui, the page that shows them
auth      which key opens what
audited   the trail that changes leave
errors    every refusal in OpenAI's shape
bridge    from a client's connection to uvicorn's protocol
"""
