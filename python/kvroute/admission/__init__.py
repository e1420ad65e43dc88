"""A bounded queue before a router whose workers are all over their thresholds, for asyncio."""

from __future__ import annotations

from kvroute.admission.errors import AdmissionError, QueueFull, QueueTimeout
from kvroute.admission.orders import ORDERS, Fcfs, Order, Priority, ShortestUncached, Waiting
from kvroute.admission.queue import AdmissionQueue
from kvroute.admission.reservation import AdmittedReservation

__all__ = [
    "ORDERS",
    "AdmissionError",
    "AdmissionQueue",
    "AdmittedReservation",
    "Fcfs",
    "Order",
    "Priority",
    "QueueFull",
    "QueueTimeout",
    "ShortestUncached",
    "Waiting",
]
