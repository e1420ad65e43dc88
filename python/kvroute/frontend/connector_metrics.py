"""What a connector counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from kvroute.disagg.connector import Connector


class ConnectorCollector(Collector):
    """``kvroute_disagg_messages_total``, read from the connector when it is asked for."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "kvroute_disagg_messages",
            "Messages that engines sent to the connector, by what became of them.",
            labels=["outcome"],
        )
        for outcome, count in self._connector.messages().items():
            family.add_metric([outcome], count)
        yield family
