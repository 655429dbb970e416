"""Workers in Kubernetes: the endpoints of a Service, or the pods that carry certain labels.

A Service's EndpointSlices are less to watch and need less of a right to read; pods have annotations of their
own, so that workers may differ.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import yaml
from kubernetes_asyncio.client.api_client import ApiClient
from kubernetes_asyncio.client.configuration import Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes_asyncio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

from warmroute.config import UsageError
from warmroute.discovery.found import Found, Report
from warmroute.discovery.listwatch import ListWatch
from warmroute.discovery.objects import (
    EndpointSlice,
    Pod,
    Seen,
    Unclear,
    without_twins,
    workers_of_pod,
    workers_of_slice,
)

T = TypeVar("T", Pod, EndpointSlice)

log = logging.getLogger("warmroute.discovery")

# Where a pod finds its token, its cluster's certificate and the namespace that it runs in.
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the API server is reached."""

    kubeconfig: Path | None
    """None: as a pod of the cluster where we are one, else as `kubectl` does."""

    @property
    def from_inside(self) -> bool:
        """Reads. Whether this process is a pod that uses its own service account."""
        return self.kubeconfig is None and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))

    def check(self) -> None:
        """Raises UsageError where there is no cluster to be found."""
        if self.from_inside:
            return
        named = self.kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION
        paths = [Path(part).expanduser() for part in str(named).split(os.pathsep) if part]
        there = [path for path in paths if path.is_file()]
        if not there:
            raise UsageError(
                f"discover_kubernetes_*: not inside a cluster, and there is no kubeconfig at {named}; set "
                "discover_kubernetes_kubeconfig"
            )
        for path in there:
            try:
                document = yaml.safe_load(path.read_text("utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
            if not isinstance(document, dict) or "clusters" not in document:
                raise UsageError(f"{path}: expected a kubeconfig, with `clusters` in it")

    async def connect(self) -> tuple[ApiClient, str]:
        """A client, and the namespace that is meant when none is named. Its files are small and read at
        the start and after a 401. Raises ConfigException, OSError, ValueError."""
        configuration = Configuration()
        if self.from_inside:
            load_incluster_config(
                client_configuration=configuration,
                token_filename=str(_SERVICE_ACCOUNT / "token"),
                cert_filename=str(_SERVICE_ACCOUNT / "ca.crt"),
            )
            namespace = await asyncio.to_thread((_SERVICE_ACCOUNT / "namespace").read_text, "utf-8")
        else:
            try:
                loader = await load_kube_config(
                    config_file=None if self.kubeconfig is None else str(self.kubeconfig),
                    client_configuration=configuration,
                    persist_config=False,
                )
            except (AttributeError, TypeError, AssertionError, yaml.YAMLError) as error:
                # What the library does with a file of another shape; `check` saw it, it was changed since.
                raise ConfigException(f"the kubeconfig cannot be understood: {error}") from None
            context = loader.current_context or {}
            namespace = context.get("context", {}).get("namespace") or "default"
        return ApiClient(configuration), namespace.strip()


class KubernetesSource:
    """State: what is watched, what each object said last, and which of them are unclear."""

    kind = "kubernetes"

    def __init__(
        self,
        cluster: Cluster,
        service: str | None,
        selector: str,
        namespace: str | None,
        port: str | None,
    ) -> None:
        """A Service by its name, or pods by their labels."""
        self._cluster = cluster
        self._service = service
        self._selector = selector if service is None else f"kubernetes.io/service-name={service}"
        self._namespace = namespace
        self._port = port
        what = f"pods {selector}" if service is None else f"service {service}"
        self.target = what if namespace is None else f"{what} in {namespace}"
        self._seen: dict[str, tuple[str, list[Seen]]] = {}
        """By object: its version, and the workers in it."""
        self._unclear: dict[str, str] = {}

    async def run(self, report: Report) -> None:
        """Writes. Lists and watches until it is cancelled."""

        def of_pods(pods: Mapping[str, Pod]) -> None:
            report.found(self._workers(pods, workers_of_pod))

        def of_slices(slices: Mapping[str, EndpointSlice]) -> None:
            report.found(self._workers(slices, workers_of_slice))

        if self._service is None:
            await ListWatch(self._selector, Pod, self._connect, of_pods, report.failed).run()
        else:
            await ListWatch(self._selector, EndpointSlice, self._connect, of_slices, report.failed).run()

    async def _connect(self) -> tuple[ApiClient, str]:
        api, namespace = await self._cluster.connect()
        if self._service is None:
            base, kind = "/api/v1", "pods"
        else:
            base, kind = "/apis/discovery.k8s.io/v1", "endpointslices"
        return api, f"{base}/namespaces/{quote(self._namespace or namespace, safe='')}/{kind}"

    def _workers(
        self, objects: Mapping[str, T], read: Callable[[T, str | None], list[Seen]]
    ) -> Iterable[Found]:
        """Writes. An object that is unclear is said once, and what it said before still holds."""
        seen: dict[str, tuple[str, list[Seen]]] = {}
        for key, thing in objects.items():
            version = thing.metadata.resource_version
            known = self._seen.get(key)
            if known is None or known[0] != version:
                try:
                    known = version, read(thing, self._port)
                    self._unclear.pop(key, None)
                except Unclear as error:
                    known = version, known[1] if known is not None else []
                    if self._unclear.get(key) != str(error):
                        self._unclear[key] = str(error)
                        log.warning("discovery cannot tell a worker", extra={"why": str(error)})
            seen[key] = known
        for key in self._unclear.keys() - seen.keys():
            del self._unclear[key]
        self._seen = seen
        return without_twins(part for _, part in seen.values())
