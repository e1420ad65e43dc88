"""A router's numbers on the Prometheus port of a real cluster's node."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import aiohttp
import kvroute
import ray
from cluster_harness import eventually, prompt
from kvroute.ray_serve.counters import Counters
from kvroute.ray_serve.metrics import MetricsPublisher

if TYPE_CHECKING:
    from cluster_harness import Cluster


def series(text: str, application: str) -> dict[tuple[str, str], float]:
    """The application's samples by name and replica, reason or bucket."""
    found = {}
    for line in text.splitlines():
        sample = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line)
        if sample and f'application="{application}"' in sample[2]:
            of = re.search(r'(?:replica|reason|le)="([^"]*)"', sample[2])
            found[sample[1], of[1] if of else ""] = float(sample[3])
    return found


async def test_prometheus_has_the_numbers(cluster: Cluster, http: aiohttp.ClientSession) -> None:  # noqa: ARG001  # it must run
    application = f"app-{random.randrange(1 << 32)}"
    counters = Counters()
    counters.decided(prompt_tokens=128, cached_tokens=64)
    counters.fell_back("internal")
    counters.choose_seconds.observe(40e-6)
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with kvroute.KvRouter(block_size=16) as router:
        router.add_worker("a")
        booking = router.reserve(prompt(1))
        publisher = MetricsPublisher(
            application=application,
            deployment="Model",
            counters=counters,
            router_stats=router.stats,
            interval_s=0.5,
        )
        publisher.start()

        async def published() -> dict[tuple[str, str], float] | None:
            async with http.get(url) as response:
                found = series(await response.text(), application)
            return found if ("ray_kvroute_held_blocks", "a") in found else None

        found = await eventually("Prometheus has the replica's gauges", published)
        publisher.close()
        booking.release()
    assert found["ray_kvroute_decisions_total", ""] == 1
    assert found["ray_kvroute_cached_tokens_total", ""] == 64
    assert found["ray_kvroute_fallbacks_total", "internal"] == 1
    assert found["ray_kvroute_held_blocks", "a"] == 8
    assert found["ray_kvroute_active_requests", "a"] == 1
    assert found["ray_kvroute_choose_seconds_count", ""] == 1
