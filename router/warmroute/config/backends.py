"""One worker as an operator writes it.

As text, the URL and then options behind commas: `http://gpu1:8000,weight=2,model=llama`. In a file also as a
mapping: `{url: http://gpu1:8000, weight: 2, model: [llama]}`. The URL in its plain form (scheme, host and
port, nothing behind but a rank, `ranks`) is the worker's identity everywhere: in metrics, journals and the
admin API.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from warmroute.config.endpoints import KvEventsMode, KvReplay, of_rank
from warmroute.config.kinds import Kind, Weight, split_text
from warmroute.config.presets import preset_name, preset_or_file
from warmroute.ranks import RANKS_MAX, split_rank

# What a URL without a port means.
_PORTS: Final = {"http": 80, "https": 443}

_ZONE: Final = re.compile(r"[a-z0-9_.-]{0,32}")

# A label and a name, as resolvers and certificates know them (RFC 1035 section 2.3.4), with the underscores
# of some clusters. Other letters are written xn--….
_LABEL: Final = "[A-Za-z0-9_-]{1,63}"
HOST_NAME: Final = rf"{_LABEL}(\.{_LABEL})*\.?"
_NAME_CHARS_MAX: Final = 253

_TLS_NAME: Final = f"^({HOST_NAME}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$"

_LIKE_IPV4: Final = re.compile(r"[0-9]+(\.[0-9]+){3}")


def worker_url(text: str) -> str:
    """A worker's URL in its plain form, `http://host:port` or `https://host:port`, and `@rank` behind it
    where it is one of several ranks. Raises ValueError with what was expected."""
    address, rank = split_rank(text.strip())
    url = _address(address)
    return url if rank is None else f"{url}@{rank}"


def _address(text: str) -> str:
    shown = repr(text)
    if "://" not in text:
        raise ValueError(f"expected http://host:port, got {shown}; did you mean http://{text.strip('/')}?")
    no_host = (
        f"{shown}: expected a host's name or address; a name in other letters than a to z is written in its "
        "ASCII form (xn--…)"
    )
    try:
        parts = urlsplit(text.strip())
    except ValueError:  # brackets, and no address in them
        raise ValueError(no_host) from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise ValueError(f"expected http://host:port or https://host:port, got {shown}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected http://host:port, got a URL with a user or password")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{shown}: expected no path behind the port, a request keeps its own")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{shown}: expected a port from 1 to 65535") from None
    if not parts.hostname or port == 0:
        raise ValueError(f"expected http://host:port, got {shown}")
    host = f"[{parts.hostname}]" if "[" in parts.netloc else parts.hostname
    if not _is_host(host):
        raise ValueError(no_host)
    return f"{scheme}://{host}:{port if port is not None else _PORTS[scheme]}"


def _is_host(host: str) -> bool:
    try:
        if host.startswith("["):
            address, _, zone = host[1:-1].partition("%")
            IPv6Address(address)
            return _ZONE.fullmatch(zone) is not None
        if _LIKE_IPV4.fullmatch(host):
            IPv4Address(host)
    except ValueError:
        return False
    return len(host) <= _NAME_CHARS_MAX and re.fullmatch(HOST_NAME, host) is not None


def _tls_name(text: str) -> str:
    if len(text) > _NAME_CHARS_MAX or re.fullmatch(_TLS_NAME, text) is None:
        raise ValueError(f"expected the name of a host, got {text!r}")
    return text


TlsName = Annotated[
    str,
    AfterValidator(_tls_name),
    WithJsonSchema({"type": "string", "pattern": _TLS_NAME, "maxLength": _NAME_CHARS_MAX}),
]
"""What a certificate may be for."""


class Backend(BaseModel):
    """One worker: its URL and what is known of it beforehand."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    model: Annotated[tuple[str, ...], BeforeValidator(split_text)] = ()
    """Names of the models it serves; empty: asked at /v1/models, or any model when discovery is off."""
    weight: Weight = 1.0
    """Relative speed: predicted prefill seconds are divided by it."""
    kv_capacity_tokens: int | None = Field(default=None, ge=1)
    """Tokens that its KV cache holds; None: read from the engine where it tells, else learned."""
    preset: str | None = None
    """Latency preset of this worker, or a fitted one's file; None: the fleet's (`latency_preset`)."""
    tls_name: TlsName | None = None
    """Of a worker with https://: the name that its certificate must show; None: the URL's host."""
    max_inflight: int | None = Field(default=None, ge=1)
    """Requests that it may have in flight; None: as all others (`max_inflight_per_worker`)."""
    kv_events: KvEventsMode | None = None
    """Where its KV events are had from; None: as all others' (`kv_events`)."""
    kv_replay: KvReplay | None = None
    """Where it can be asked for old ones; None: where it says itself."""
    ranks: int | None = Field(default=None, ge=1, le=RANKS_MAX)
    """Data-parallel ranks behind the URL, each of which is a worker; what else is given holds for each."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        url, *options = value.split(",")
        given: dict[str, Any] = {"url": url}
        for option in options:
            name, equals, text = option.partition("=")
            if not equals:
                raise ValueError(f"expected URL,name=value,…, got {option!r} behind the URL")
            if name == "model":
                given.setdefault("model", []).append(text)
            elif name in given or name == "url":
                raise ValueError(f"`{name}` is given twice")
            else:
                given[name] = text
        unknown = next((name for name in given if name not in cls.model_fields), None)
        if unknown is not None:
            known = ", ".join(name for name in cls.model_fields if name != "url")
            raise ValueError(f"a backend has no option {unknown!r} (known: {known})")
        return given

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        return worker_url(value)

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str | None) -> str | None:
        return None if value is None else preset_or_file(value)

    @model_validator(mode="after")
    def _name_is_of_use(self) -> Self:
        if self.tls_name is not None and not self.url.startswith("https://"):
            raise ValueError("tls_name is for workers with https://")
        return self

    @model_validator(mode="after")
    def _one_rank_or_all(self) -> Self:
        if self.ranks is not None and split_rank(self.url)[1] is not None:
            raise ValueError(f"{self.url} is one rank; `ranks` is for the URL of all")
        return self

    def each(self) -> tuple[Backend, ...]:
        """Reads. The workers that are meant: one, or one per rank."""
        if self.ranks is None:
            return (self,)
        return tuple(
            self.model_copy(
                update={
                    "url": f"{self.url}@{rank}",
                    "ranks": None,
                    "kv_events": None if self.kv_events is None else of_rank(self.kv_events, rank),
                    "kv_replay": None if self.kv_replay is None else of_rank(self.kv_replay, rank),
                }
            )
            for rank in range(self.ranks)
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """A backend from its text form. Raises pydantic's ValidationError, a ValueError."""
        return cls.model_validate(text)

    def __str__(self) -> str:
        """The text form; what equals its default is left out."""
        options = [f"model={name}" for name in self.model]
        if self.weight != 1.0:
            options.append(f"weight={self.weight:g}")
        if self.kv_capacity_tokens is not None:
            options.append(f"kv_capacity_tokens={self.kv_capacity_tokens}")
        if self.preset is not None:
            options.append(f"preset={self.preset}")
        if self.tls_name is not None:
            options.append(f"tls_name={self.tls_name}")
        if self.max_inflight is not None:
            options.append(f"max_inflight={self.max_inflight}")
        if self.kv_events is not None:
            options.append(f"kv_events={self.kv_events}")
        if self.kv_replay is not None:
            options.append(f"kv_replay={self.kv_replay}")
        if self.ranks is not None:
            options.append(f"ranks={self.ranks}")
        return ",".join((self.url, *options))


def one_each(listed: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """The workers that are listed, ranks one by one. Raises ValueError when two have one URL."""
    backends = tuple(backend for entry in listed for backend in entry.each())
    seen: set[str] = set()
    for backend in backends:
        if backend.url in seen:
            raise ValueError(f"{backend.url} is listed twice")
        seen.add(backend.url)
    return backends


def late_backend(where: str, facts: Backend) -> Backend:
    """A worker at `host:port` with these facts and their scheme, to join while the router runs. Raises
    ValueError where it names a preset that is not built in, since files of fitted ones are read at the start,
    or several ranks."""
    if facts.ranks is not None:
        raise ValueError("`ranks` is for listed backends; what is found is one worker each")
    if facts.preset is not None:
        preset_name(facts.preset)
    return facts.model_copy(update={"url": worker_url(f"{facts.url.partition(':')[0]}://{where}")})


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, (dict, Backend)) else split_text(value)


Backends = Annotated[
    tuple[Backend, ...],
    BeforeValidator(_one_or_many),
    AfterValidator(one_each),
    Kind("URLs such as http://gpu1:8000 or http://gpu1:8000,weight=2", "URL"),
]
