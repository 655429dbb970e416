"""From settings to sources. What is missing or does not fit together is told before the port opens."""

from __future__ import annotations

from warmroute.config import Settings, UsageError
from warmroute.config.names import parse_dns_name
from warmroute.config.sources import check_file_name
from warmroute.discovery.found import Source
from warmroute.discovery.reconcile import Discovery
from warmroute.gateway import Gateway


def discovery_of(gateway: Gateway) -> Discovery | None:
    """What the settings ask for; None: nothing. Raises UsageError."""
    settings = gateway.settings
    sources = [*_file(settings), *_dns(settings), *_kubernetes(settings)]
    return Discovery(gateway, sources) if sources else None


def _file(settings: Settings) -> list[Source]:
    from warmroute.discovery.by_file import FileSource

    path = settings.discover_file
    if path is None:
        return []
    check_file_name(path)
    return [FileSource(path, settings.discover_file_interval_s)]


def _dns(settings: Settings) -> list[Source]:
    if not settings.discover_dns:
        return []
    floor_s, ceiling_s = settings.discover_dns_min_interval_s, settings.discover_dns_max_interval_s
    if floor_s > ceiling_s:
        raise UsageError("discover_dns_min_interval_s is above discover_dns_max_interval_s")
    try:
        from warmroute.discovery import by_dns
    except ImportError:
        raise UsageError(_missing("discover_dns", "dns")) from None
    try:
        resolver = by_dns.resolver_for(settings.discover_dns_server)
    except ValueError as error:
        raise UsageError(f"discover_dns_server: {error}") from None
    return [
        by_dns.DnsSource(parse_dns_name(text), resolver, floor_s, ceiling_s, settings.discover_dns_gone_after)
        for text in settings.discover_dns
    ]


def _kubernetes(settings: Settings) -> list[Source]:
    service, selector = settings.discover_kubernetes_service, settings.discover_kubernetes_selector
    port = settings.discover_kubernetes_port
    if service is None and not selector:
        return []
    if service is not None and selector:
        raise UsageError("discover_kubernetes_service and discover_kubernetes_selector: set one of them")
    if port is not None and port.isdecimal() and not 0 < int(port) <= 65535:
        raise UsageError(f"discover_kubernetes_port: expected a name or 1 to 65535, got {port}")
    try:
        from warmroute.discovery import by_pods
    except ImportError:
        raise UsageError(_missing("discover_kubernetes_*", "kubernetes")) from None
    cluster = by_pods.Cluster(settings.discover_kubernetes_kubeconfig)
    cluster.check()
    return [
        by_pods.KubernetesSource(
            cluster, service, ",".join(selector), settings.discover_kubernetes_namespace, port
        )
    ]


def _missing(setting: str, extra: str) -> str:
    return f"{setting} needs more than is installed: pip install 'warmroute[{extra}]'"
