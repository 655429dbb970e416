"""A policy and its parameters as people write them: `NAME` or `NAME:param=value,…`."""

from __future__ import annotations

from warmroute_policies.events import PolicySpec
from warmroute_policies.parameters import Value
from warmroute_policies.registry import available


def parse_policy(text: str) -> PolicySpec:
    """`NAME` or `NAME:param=value,…`. A name may be `package.module:Class`, then parameters follow a second
    colon. Raises ValueError that says what was expected."""
    name, colon, rest = text.partition(":")
    if colon and name not in available() and "=" not in rest.partition(":")[0]:
        attribute, _, rest = rest.partition(":")
        name = f"{name}:{attribute}"
    params: dict[str, Value] = {}
    for pair in rest.split(",") if rest else ():
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ValueError(f"policy {text!r}: expected `param=value`, not {pair!r}")
        params[key.strip()] = value.strip()
    if not name:
        raise ValueError(f"policy {text!r}: a name is missing")
    return PolicySpec(name, params)


def policy_text(policy: PolicySpec) -> str:
    """What `parse_policy` reads."""
    params = ",".join(f"{key}={value}" for key, value in policy.params.items())
    return f"{policy.name}:{params}" if params else policy.name
