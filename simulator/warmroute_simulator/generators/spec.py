"""`NAME[:param=value,...]`, the textual form of a workload, taken apart.

Commas, pluses and the like inside parentheses separate nothing: `chat:turns=lognormal(4,0.8,1,40),
zipf_exponent=1` has two parameters.
"""

from __future__ import annotations

from warmroute_policies.errors import ConfigError


def name_and_parameters(spec: str) -> tuple[str, dict[str, str]]:
    """Raises ConfigError when a parameter has no value or comes twice."""
    name, _, rest = spec.strip().partition(":")
    return name.strip(), parameters_in(rest)


def parameters_in(text: str) -> dict[str, str]:
    """From `param=value,...`. Raises ConfigError when a parameter has no value or comes twice."""
    given: dict[str, str] = {}
    for part in split_outside(text, ","):
        if not part.strip():
            continue
        parameter, equals, value = part.partition("=")
        parameter = parameter.strip()
        if not equals or not parameter:
            raise ConfigError(f"expected param=value, not `{part.strip()}`")
        if parameter in given:
            raise ConfigError(f"the parameter `{parameter}` is given twice")
        given[parameter] = value.strip()
    return given


def split_outside(text: str, separator: str) -> list[str]:
    """The parts between separators outside parentheses. Raises ConfigError for a lone parenthesis."""
    parts, begin, depth = [], 0, 0
    for at, letter in enumerate(text):
        if letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
            if depth < 0:
                break
        elif letter == separator and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    if depth:
        raise ConfigError(f"parentheses do not match in `{text}`")
    return [*parts, text[begin:]]
