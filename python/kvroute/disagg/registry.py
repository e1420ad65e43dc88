"""Connectors by name: kvroute's own, and those of other packages by entry point.

A third party declares, in its pyproject.toml::

    [project.entry-points."kvroute.disagg_connectors"]
    mine = "my_package.connector:MyConnector"

Nothing is imported before it is asked for: a broken package hurts only those who name it.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from kvroute.disagg.connector import Connector

GROUP = "kvroute.disagg_connectors"
DEFAULT_CONNECTOR = "nixl"

_OWN = {
    "nixl": "nixl:NixlConnector",
    "lmcache": "lmcache:LmcacheConnector",
    "sglang": "sglang:SglangConnector",
    "mooncake": "mooncake:MooncakeConnector",
    "p2p_nccl": "p2p_nccl:P2pNcclConnector",
    "shared_storage": "shared_storage:SharedStorageConnector",
}


class ConnectorError(ValueError):
    """A connector that does not exist, cannot be loaded, or was given wrong options."""


def connector_names() -> tuple[str, ...]:
    """What ``--disagg-connector-type`` takes: kvroute's own, then other packages', sorted."""
    return (*_OWN, *sorted({entry.name for entry in _entries()} - _OWN.keys()))


def connector_type(name: str) -> type[Connector]:
    """The class of a name; kvroute's own win over other packages'. Raises ConnectorError."""
    found = _own(name) if name in _OWN else _load(_entry(name))
    if not (isinstance(found, type) and issubclass(found, Connector)):
        raise ConnectorError(f"connector {name!r}: expected a subclass of Connector, got {found!r}")
    options = getattr(found, "options_type", None)
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        raise ConnectorError(f"connector {name!r}: expected a dataclass as its options_type")
    return found


def option_names(name: str) -> tuple[str, ...]:
    """The options that a connector takes. Raises ConnectorError."""
    fields = dataclasses.fields(connector_type(name).options_type)
    return tuple(field.name for field in fields if field.init)


def make_connector(name: str, options: Mapping[str, Any] | None = None) -> Connector:
    """A connector, not open yet, with its options checked.

    An option that is None is one that was not given. Raises ConnectorError naming the connector
    and the option, what was expected and what came.
    """
    kind = connector_type(name)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    known = option_names(name)
    for key in given:
        if key not in known:
            takes = ", ".join(known) or "none"
            raise ConnectorError(f"connector {name!r}: no option {key!r}; it takes {takes}")
    try:
        made = kind.options_type(**given)
    except (TypeError, ValueError) as error:
        raise ConnectorError(f"connector {name!r}: {error}") from error
    factory: Any = kind
    connector = factory(made)
    assert isinstance(connector, Connector)
    return connector


def _own(name: str) -> object:
    module, _, attribute = _OWN[name].partition(":")
    try:
        return getattr(importlib.import_module(f"kvroute.disagg.connectors.{module}"), attribute)
    except ModuleNotFoundError as error:
        raise ConnectorError(
            f"connector {name!r}: needs the package {error.name}: pip install 'kvroute[serve]'"
        ) from error


def _entries() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _entry(name: str) -> EntryPoint:
    found = {(entry.value, _package(entry)): entry for entry in _entries() if entry.name == name}
    if not found:
        names = ", ".join(connector_names())
        raise ConnectorError(f"connector {name!r}: there is none of this name; there are {names}")
    if len(found) > 1:
        packages = " and ".join(sorted(package for _, package in found))
        raise ConnectorError(f"connector {name!r}: declared by {packages}")
    return next(iter(found.values()))


def _load(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:  # whatever a foreign module does when it is imported
        raise ConnectorError(
            f"connector {entry.name!r} of {_package(entry)}: cannot load {entry.value} "
            f"({type(error).__name__}: {error})"
        ) from error


def _package(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else entry.dist.name
