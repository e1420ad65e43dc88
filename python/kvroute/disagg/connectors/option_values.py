"""Checks of connectors' options: ValueError names the field, what it takes and what came."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def checked_host(name: str, value: object) -> str:
    """A host's name or address, without scheme and port."""
    if not isinstance(value, str) or not value.strip() or "/" in value or " " in value.strip():
        raise ValueError(f"{name}: expected a host's name or address, got {value!r}")
    return value.strip()


def checked_port(name: str, value: object, *, least: int = 1) -> int:
    """A TCP port; `least` is 0 where the system may choose one."""
    if type(value) is not int or not least <= value <= 65535:
        raise ValueError(f"{name}: expected a port from {least} to 65535, got {value!r}")
    return value


def checked_ports(name: str, value: object) -> tuple[int, ...]:
    """One port, or one for each tensor-parallel rank: an int, a list, or a text such as "1,2"."""
    if isinstance(value, str):
        try:
            value = [int(part) for part in value.split(",")]
        except ValueError:
            raise ValueError(f"{name}: expected ports such as 8300,8301, got {value!r}") from None
    if not isinstance(value, Sequence):
        return (checked_port(name, value),)
    if not value:
        raise ValueError(f"{name}: expected a port for each tensor-parallel rank, got none")
    ports = tuple(checked_port(f"{name}[{rank}]", port) for rank, port in enumerate(value))
    if len(set(ports)) != len(ports):
        raise ValueError(f"{name}: expected different ports, got {list(ports)}")
    return ports


def checked_seconds(name: str, value: object) -> float:
    """A positive, finite time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}: expected seconds, got {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}: expected more than 0 seconds, got {value!r}")
    return float(value)


def checked_url(name: str, value: object) -> str:
    """An engine's base URL in the form in which URLs are compared: see `same_url`."""
    if not isinstance(value, str) or urlsplit(value).scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{name}: expected an http(s) URL, got {value!r}")
    try:
        return same_url(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected an http(s) URL, got {value!r} ({error})") from None


def same_url(url: str) -> str:
    """The form in which two URLs of one engine are equal: lower case, with its port, no slash."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host in it")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"


def checked_ports_by_url(name: str, value: object) -> dict[str, int]:
    """A port for each of some engines: an object keyed by base URL."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected an object keyed by URL, got {value!r}")
    return {
        checked_url(f"{name} key", url): checked_port(f"{name}[{url!r}]", port)
        for url, port in value.items()
    }


def url_host(url: str) -> str:
    """The host of an engine's URL, an IPv6 address without brackets. Raises ValueError."""
    host = urlsplit(url).hostname
    if not host:
        raise ValueError(f"url: expected one with a host, got {url!r}")
    return host
