"""Configuration: what can be set, where a value came from, and what the core gets of it.

    kinds      the types of settings: what is accepted, and the words that say so
    backends   one worker as an operator writes it: `http://gpu1:8000,weight=2`
    admission  a class, a tenant: `high=16`, `acme,weight=2`
    names      a DNS name as an operator writes it: `vllm.llm.svc:8000`
    settings   `Settings`: every field with its only default
    sources    `load`: flags > ROUTER_* environment > file > defaults, and errors that name their source
    flags      the command line, generated from `Settings`
    peers      command lines of sglang-router, vllm-router and smg: what means the same, an answer to the rest
    show       `router config`: the resolved values for people and for programs
    core       settings as the values that the decision core takes

A key of a file, a flag and a variable have one name: `idle_timeout_s`, `--idle-timeout-s`,
`ROUTER_IDLE_TIMEOUT_S`.
"""

from warmroute.config.backends import Backend
from warmroute.config.settings import Settings
from warmroute.config.sources import Resolved, UsageError, load

__all__ = ["Backend", "Resolved", "Settings", "UsageError", "load"]
