"""A deployment's KvRouter in this process, and who tells others of it."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from kvroute import KvRouter
from kvroute.ray_serve.options import RouterOptions

if TYPE_CHECKING:
    from kvroute.ray_serve.exchange import BookingExchange

_LOGGER = logging.getLogger("ray.serve")


class LiveRouter:
    """Begins when it is made. `exchange` is None where there is none."""

    def __init__(
        self,
        app: str,
        deployment: str,
        options: RouterOptions,
        block_size: int,
    ) -> None:
        self.router = KvRouter(
            block_size,
            options.policy,
            options.memory_limit,
            options.seed,
            predicted_ttl=options.predicted_ttl,
            reservation_ttl=options.reservation_ttl,
        )
        self.exchange = (
            _exchange(app, deployment, options, self.router) if options.exchange else None
        )

    def close(self) -> None:
        """Takes up to some seconds: not for an event loop."""
        if self.exchange is not None:
            self.exchange.close()
        self.router.close()


def _exchange(
    app: str, deployment: str, options: RouterOptions, router: KvRouter
) -> BookingExchange | None:
    """With the routers that choose alike: blocks of another size, or another policy's load, would
    say nothing here. None where it cannot be: each router then sees its own load and the engines'.
    """
    alike = hashlib.sha256(f"{options.key()}{router.block_size}".encode()).hexdigest()[:16]
    group = f"{app}/{deployment}/{alike}"
    try:
        from kvroute.ray_serve.exchange import BookingExchange, ExchangeLimits
        from kvroute.ray_serve.exchange.ray_rendezvous import RayRendezvous

        exchange = BookingExchange(
            group,
            router,
            RayRendezvous(group),
            interval_s=options.exchange_interval_s,
            host=options.exchange_host,
            limits=ExchangeLimits(lifetime_s=options.reservation_ttl),
        )
        exchange.start()
    except Exception:
        _LOGGER.exception("kvroute: routers of %s do not tell one another of their load", group)
        return None
    return exchange
