"""Bookings exchanged between the router processes of one deployment.

    exchange = BookingExchange("app/deployment", router, rendezvous)
    exchange.start()

Only `ray_rendezvous` needs Ray.
"""

from __future__ import annotations

from kvroute.ray_serve.exchange.exchange import BookingExchange
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.rendezvous import LocalRendezvous, Meeting, Member, Rendezvous

__all__ = [
    "BookingExchange",
    "ExchangeLimits",
    "LocalRendezvous",
    "Meeting",
    "Member",
    "Rendezvous",
]
