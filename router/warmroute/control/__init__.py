"""The control plane: everything that is not inference, in FastAPI, on the same port.

api       the application and its list of endpoints
health    /health, /liveness, /readiness, /metrics
models    /v1/models
workers   /workers: list, add, change, drain, remove
views     a worker as people see it
dryrun    POST /route: where would this request go, and why
debug     /debug/state
live      /live/snapshot, /live/events
page      /ui, the page that shows them
auth      which key opens what
errors    every refusal in OpenAI's shape
bridge    from a client's connection to uvicorn's protocol
"""
