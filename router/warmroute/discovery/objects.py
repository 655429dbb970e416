"""What a pod and an EndpointSlice of Kubernetes say about workers: JSON in, `Found` out.

Of the objects only these few fields are read, into structures of msgspec: the client library's own models
take a millisecond per pod.

Ready, paused or leaving: a pod with a deletion timestamp, or an endpoint that terminates, is leaving; one
that is not Ready is paused; a pod that has ended, or has no address yet, is not there.

Facts stand in annotations of the pod, or in labels of the same name. Kubernetes copies a Service's labels to
its EndpointSlices (not its annotations), so there they hold for all endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec
from pydantic import ValidationError

from warmroute.config.backends import Backend, late_backend
from warmroute.discovery.found import Found, Sight

PREFIX: Final = "warmroute.io/"

# Ranks of one pod: there is a rank per GPU, and nodes have up to 16.
_RANKS_MAX: Final = 64


class Meta(msgspec.Struct, rename="camel"):
    """What every object has."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Condition(msgspec.Struct):
    type: str
    status: str


class ContainerPort(msgspec.Struct, rename="camel"):
    container_port: int
    name: str | None = None
    protocol: str | None = None


class Container(msgspec.Struct):
    ports: list[ContainerPort] | None = None


class PodSpec(msgspec.Struct):
    containers: list[Container] = []


class PodStatus(msgspec.Struct):
    phase: str = ""
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    conditions: list[Condition] | None = None


class Pod(msgspec.Struct):
    metadata: Meta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class EndpointConditions(msgspec.Struct):
    ready: bool | None = None
    terminating: bool | None = None


class Reference(msgspec.Struct):
    uid: str = ""


class Endpoint(msgspec.Struct, rename="camel"):
    addresses: list[str] = []
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    target_ref: Reference | None = None


class SlicePort(msgspec.Struct):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointSlice(msgspec.Struct, rename="camel"):
    metadata: Meta
    address_type: str
    endpoints: list[Endpoint] | None = None
    ports: list[SlicePort] | None = None


class Seen(NamedTuple):
    """A worker in one object. The same pod may stand in slices of both address families."""

    found: Found
    pod: str
    """Its uid; empty: not known."""
    ipv6: bool = False


class Unclear(Exception):
    """An object does not tell what is needed; the message says what to do."""


def workers_of_pod(pod: Pod, port: str | None) -> list[Seen]:
    """The workers in a pod: one, or one per data-parallel rank. Raises Unclear."""
    status, meta = pod.status, pod.metadata
    if not status.pod_ip or status.phase in ("Succeeded", "Failed"):
        return []
    if meta.deletion_timestamp is not None:
        sight = Sight.LEAVING
    else:
        conditions = status.conditions or ()
        ready = any(one.type == "Ready" and one.status == "True" for one in conditions)
        sight = Sight.READY if ready else Sight.PAUSED
    declared = [
        (one.name, one.container_port)
        for container in pod.spec.containers
        for one in container.ports or ()
        if one.protocol in (None, "TCP")
    ]
    facts = _Facts(meta)
    number = facts.port or _port(f"pod {meta.name}", port, declared)
    return [Seen(Found(backend, sight), meta.uid) for backend in facts.backends(status.pod_ip, number)]


def workers_of_slice(part: EndpointSlice, port: str | None) -> list[Seen]:
    """The workers in a part of a Service's endpoints. Raises Unclear."""
    if part.address_type not in ("IPv4", "IPv6") or not part.endpoints:
        return []
    declared = [
        (one.name, one.port)
        for one in part.ports or ()
        if one.port is not None and one.protocol in (None, "TCP")
    ]
    facts = _Facts(part.metadata)
    number = facts.port or _port(f"EndpointSlice {part.metadata.name}", port, declared)
    seen = []
    for endpoint in part.endpoints:
        if not endpoint.addresses:
            continue
        if endpoint.conditions.terminating:
            sight = Sight.LEAVING
        else:  # not told: ready, as the API has it
            sight = Sight.PAUSED if endpoint.conditions.ready is False else Sight.READY
        uid = endpoint.target_ref.uid if endpoint.target_ref is not None else ""
        # More addresses than one are one endpoint's; clients are to take the first.
        seen += [
            Seen(Found(backend, sight), uid, part.address_type == "IPv6")
            for backend in facts.backends(endpoint.addresses[0], number)
        ]
    return seen


def without_twins(objects: Iterable[list[Seen]]) -> Iterator[Found]:
    """All workers; of a pod that has addresses of both families only those of IPv4."""
    everything = [seen for part in objects for seen in part]
    ipv4 = {seen.pod for seen in everything if seen.pod and not seen.ipv6}
    return (seen.found for seen in everything if not (seen.ipv6 and seen.pod in ipv4))


def _port(whose: str, wanted: str | None, declared: list[tuple[str | None, int]]) -> int:
    """Raises Unclear."""
    if wanted is not None and wanted.isdecimal():
        return int(wanted)
    numbers = sorted({number for name, number in declared if wanted is None or name == wanted})
    if len(numbers) == 1:
        return numbers[0]
    if wanted is not None:
        names = ", ".join(sorted({name for name, _ in declared if name})) or "none has a name"
        raise Unclear(f"{whose} has no port named {wanted!r} ({names})")
    if not numbers:
        raise Unclear(f"{whose} declares no port: set discover_kubernetes_port")
    listed = ", ".join(map(str, numbers))
    raise Unclear(f"{whose} declares several ports ({listed}): set discover_kubernetes_port")


class _Facts:
    """What annotations and labels say. Raises Unclear."""

    def __init__(self, meta: Meta) -> None:
        self._whose = meta.name
        told = {
            key.removeprefix(PREFIX): value
            for source in (meta.labels, meta.annotations)  # annotations win
            for key, value in (source or {}).items()
            if key.startswith(PREFIX)
        }
        scheme = told.get("scheme", "http")
        if scheme not in ("http", "https"):
            raise Unclear(f"{self._whose}: {PREFIX}scheme: expected http or https, got {scheme!r}")
        given: dict[str, object] = {"url": f"{scheme}://0.0.0.0:1"}
        for name in ("model", "weight", "kv-capacity-tokens", "preset", "tls-name"):
            if name in told:
                given[name.replace("-", "_")] = told[name]
        if "model" in told:
            given["model"] = [name.strip() for name in told["model"].split(",") if name.strip()]
        try:
            self._facts = late_backend("0.0.0.0:1", Backend.model_validate(given))
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).replace("_", "-")
            raise Unclear(f"{self._whose}: {PREFIX}{name}: {first['msg']}") from None
        except ValueError as error:
            raise Unclear(f"{self._whose}: {PREFIX}preset: {error}") from None
        self.port = self._whole(told, "port", 65535)
        self._ranks = self._whole(told, "dp-ranks", _RANKS_MAX) or 1

    def _whole(self, told: dict[str, str], name: str, most: int) -> int | None:
        text = told.get(name)
        if text is None:
            return None
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise Unclear(
                f"{self._whose}: {PREFIX}{name}: expected a whole number from 1 to {most}, got {text!r}"
            )
        return int(text)

    def backends(self, address: str, port: int) -> list[Backend]:
        """One per rank, on consecutive ports."""
        host = f"[{address}]" if ":" in address else address
        try:
            return [
                late_backend(f"{host}:{number}", self._facts) for number in range(port, port + self._ranks)
            ]
        except ValueError as error:
            raise Unclear(f"{self._whose}: {error}") from None
