"""A mix from a file, YAML or JSON: a list of parts, or a mapping with the mix's rate and limits beside them.

rate_per_s: 20
duration_s: 3600
parts:
  - {generator: chat, params: {turns: 4}, share: 0.7}
  - {generator: agents, share: 0.3}
  - {generator: rag, params: {rate_per_s: 50}, start_s: 600, end_s: 900}    # a burst of its own
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.mix import DEFAULT_RATE_PER_S, Mixture, Part


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    parts: tuple[Part, ...]
    rate_per_s: float = DEFAULT_RATE_PER_S
    requests: int | None = None
    duration_s: float | None = None


def read_mix(path: Path) -> Mixture:
    """Raises ConfigError that names the file, and what is wrong where."""
    import yaml  # 30 ms that no other command should wait for

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is neither YAML nor JSON: {error}") from None
    if isinstance(content, list):
        content = {"parts": content}
    try:
        file = msgspec.convert(content, _File)
        return Mixture(file.parts, file.rate_per_s, file.requests, file.duration_s)
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from None
