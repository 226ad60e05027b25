"""The page that Prometheus reads. Values are collected when it is asked for, so that nothing ticks in between.

The Prometheus client brings 5 MB of modules with it, so an agent that nobody scrapes does without: the server imports
this module at the first scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from twinstar.api.metrics import Metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _Collector:
    def __init__(self, cluster: str, member: str, read: Callable[[], Metrics]) -> None:
        self._labels = {"cluster": cluster, "member": member}
        self._read = read

    def collect(self) -> Iterator[Metric]:
        values = self._read()
        for described in fields(Metrics):
            value = getattr(values, described.name)
            if value is None:
                continue
            family = CounterMetricFamily if described.metadata["type"] == "counter" else GaugeMetricFamily
            metric = family(f"twinstar_{described.name}", described.metadata["help"], labels=list(self._labels))
            metric.add_metric(list(self._labels.values()), float(value))
            yield metric

    def describe(self) -> list[Metric]:
        """Nothing: so that registering does not already ask the agent for values."""
        return []


class Exposition:
    """The page that Prometheus reads, from a registry of this agent's own."""

    def __init__(self, cluster: str, member: str, read: Callable[[], Metrics]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(cluster, member, read))

    def text(self) -> bytes:
        return generate_latest(self._registry)
