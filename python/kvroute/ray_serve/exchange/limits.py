"""What bounds an exchange, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExchangeLimits:
    """Numbers, bytes and seconds; `_s` are seconds. What is beyond a bound is dropped and counted.

    Own bookings: `max_live` that peers are told of, `max_live_bytes` of them in the messages'
    format, for `lifetime_s` without a call; `max_inbox` calls that wait for the exchange's thread.
    Peers' bookings: `max_remote` in all and `max_remote_per_peer`, with `max_remote_bytes` of
    hashes. Of them `max_aside` and `max_aside_bytes` may wait for a worker that is not known here,
    of one peer `max_aside_per_peer` and `max_aside_bytes_per_peer`, each for `aside_s`: longer than
    a replica that was found dead is kept out by `membership`.
    Peers: `max_peers` of them. Who is connected and silent for `silence_s` is cut off, and each
    side says something every `beat_s`. A connection must be made and accepted in `connect_s`, and
    is tried again after `backoff_s`, twice as long each time up to `max_backoff_s`, while the
    peer was listed within `forget_s`. One whose unsent bytes exceed `max_queue_bytes` is dropped.
    The bookings of a peer whose connection broke stay for `grace_s`.
    The rendezvous is called every `heartbeat_s`.
    """

    max_live: int = 65536
    max_live_bytes: int = 256 << 20
    max_inbox: int = 65536
    lifetime_s: float = 600.0
    max_remote: int = 262144
    max_remote_per_peer: int = 65536
    max_remote_bytes: int = 256 << 20
    max_aside: int = 4096
    max_aside_bytes: int = 16 << 20
    max_aside_per_peer: int = 1024
    max_aside_bytes_per_peer: int = 4 << 20
    aside_s: float = 90.0
    max_peers: int = 256
    max_queue_bytes: int = 4 << 20
    beat_s: float = 1.0
    silence_s: float = 5.0
    connect_s: float = 2.0
    backoff_s: float = 0.05
    max_backoff_s: float = 2.0
    forget_s: float = 10.0
    grace_s: float = 2.0
    heartbeat_s: float = 2.0
