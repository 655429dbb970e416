"""The few shapes of query that all dashboards are made of.

Rules kept: every selector names the chosen routers, so that staging and production never add up; a rate spans
`$__rate_interval`, which Grafana keeps wide enough for the scrape interval; sums are over routers, because
each of them sees only its own share of the traffic.
"""

from __future__ import annotations

from typing import Final

MODEL: Final = 'model=~"$model"'
WORKER: Final = 'worker=~"$worker"'
SERVED: Final = (MODEL, WORKER)
"""The labels of whatever is counted per request."""

_ROUTERS: Final = ('job=~"$job"', 'instance=~"$instance"')


def series(name: str, *matchers: str) -> str:
    """A series of the chosen routers."""
    return f"{name}{{{','.join((*matchers, *_ROUTERS))}}}"


def rate(name: str, *matchers: str, by: str = "") -> str:
    """Per second, summed over everything but the labels in `by`."""
    return _summed(f"rate({series(name, *matchers)}[$__rate_interval])", by)


def increase(name: str, *matchers: str, by: str = "") -> str:
    """Over the dashboard's whole time range, summed over everything but the labels in `by`."""
    return _summed(f"increase({series(name, *matchers)}[$__range])", by)


def total(name: str, *matchers: str, by: str = "") -> str:
    """A gauge now, summed over everything but the labels in `by`."""
    return _summed(series(name, *matchers), by)


def quantile(share: float, name: str, *matchers: str, by: str = "") -> str:
    """Of a histogram `name`, without its `_bucket`."""
    labels = f"le,{by}" if by else "le"
    return f"histogram_quantile({share:g}, {rate(f'{name}_bucket', *matchers, by=labels)})"


def imbalance(of_each: str, by: str = "") -> str:
    """The most over the mean: 1 is even, the number of workers is all on one. Nothing while all are at 0."""
    grouping = f" by ({by})" if by else ""
    return f"max{grouping} ({of_each}) / (avg{grouping} ({of_each}) > 0)"


def _summed(inner: str, by: str) -> str:
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"
