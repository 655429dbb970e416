"""The Helm chart, rendered by Helm itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from deployed.tools import ROOT, fetched, output

CHART: Final = ROOT / "deploy" / "helm" / "warmroute"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """What one installation would send to a cluster."""

    manifests: tuple[Manifest, ...]

    def all(self, kind: str) -> list[Manifest]:
        """The manifests of a kind, those of `helm test` left out."""
        return [
            manifest
            for manifest in self.manifests
            if manifest["kind"] == kind and "helm.sh/hook" not in manifest["metadata"].get("annotations", {})
        ]

    def one(self, kind: str) -> Manifest:
        """The only manifest of a kind."""
        (manifest,) = self.all(kind)
        return manifest

    @property
    def pod(self) -> Manifest:
        """The routers' pod."""
        pod: Manifest = self.one("Deployment")["spec"]["template"]
        return pod

    @property
    def container(self) -> Manifest:
        """Its one container."""
        (container,) = self.pod["spec"]["containers"]
        return dict(container)

    def file(self, name: str) -> str:
        """A file of the ConfigMaps."""
        (text,) = [item["data"][name] for item in self.all("ConfigMap") if name in item["data"]]
        return str(text)

    def pod_specs(self) -> Iterator[Manifest]:
        """Everything that runs, the pod of `helm test` included."""
        for manifest in self.manifests:
            if manifest["kind"] == "Pod":
                yield manifest["spec"]
            elif manifest["kind"] == "Deployment":
                yield manifest["spec"]["template"]["spec"]


def rendered(*values: Path | str, release: str = "warm", namespace: str = "edge") -> Rendered:
    """`helm template` with values files and `name=value` pairs. AssertionError with Helm's words."""
    flags = [
        flag
        for value in values
        for flag in (["--values", str(value)] if isinstance(value, Path) else ["--set", value])
    ]
    text = output(fetched("helm"), "template", release, CHART, "--namespace", namespace, *flags)
    return Rendered(tuple(manifest for manifest in yaml.safe_load_all(text) if manifest))
