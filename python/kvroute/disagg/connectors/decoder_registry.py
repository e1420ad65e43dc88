"""Where LMCache's receivers listen, decoder by decoder.

Source: vllm-project/production-stack pull request #890 (``--decoder-registry``,
``--decoder-host``, ``--decoder-init-port``, ``--decoder-alloc-port``); the spec's fields are those
of LMCache, examples/disagg_prefill/disagg_proxy_server.py (``disagg_spec``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvroute.disagg.connectors.option_values import (
    checked_host,
    checked_ports,
    checked_url,
    same_url,
)

_FIELDS = ("receiver_host", "receiver_init_port", "receiver_alloc_port")
_SHORT_NAMES = {"init_port": "receiver_init_port", "alloc_port": "receiver_alloc_port"}
_MAX_FILE_BYTES = 16 << 20


class UnknownDecoderError(LookupError):
    """No entry says where a decoder's receiver listens."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A decoder's receiver: its host, and for each tensor-parallel rank its two ports."""

    host: str
    init_ports: tuple[int, ...]
    alloc_ports: tuple[int, ...]

    @property
    def ranks(self) -> int:
        return len(self.init_ports)

    def spec(self, req_id: str) -> dict[str, Any]:
        """A new ``disagg_spec`` for one request."""
        return {
            "req_id": req_id,
            "receiver_host": self.host,
            "receiver_init_port": list(self.init_ports),
            "receiver_alloc_port": list(self.alloc_ports),
        }


def read_receiver(where: str, fields: object) -> Receiver:
    """An entry: ``receiver_host``, ``receiver_init_port`` and ``receiver_alloc_port``.

    The ports may be called ``init_port`` and ``alloc_port``, and each is an int or a list with one
    for each rank. Raises ValueError naming `where` and the field.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f"{where}: expected an object, got {fields!r}")
    named = {_SHORT_NAMES.get(str(name), str(name)): value for name, value in fields.items()}
    unknown = sorted(named.keys() - set(_FIELDS))
    if unknown or len(named) != len(fields):
        raise ValueError(f"{where}.{(unknown or ['port'])[0]}: expected {', '.join(_FIELDS)} once")
    for name in _FIELDS:
        if named.get(name) is None:
            raise ValueError(f"{where}.{name}: expected one, got none")
    host = checked_host(f"{where}.receiver_host", named["receiver_host"])
    init = checked_ports(f"{where}.receiver_init_port", named["receiver_init_port"])
    alloc = checked_ports(f"{where}.receiver_alloc_port", named["receiver_alloc_port"])
    if len(init) != len(alloc):
        raise ValueError(
            f"{where}.receiver_alloc_port: expected as many ports as receiver_init_port "
            f"({len(init)}), got {len(alloc)}"
        )
    return Receiver(host, init, alloc)


def read_registry(given: str | Mapping[str, Any]) -> dict[str, Receiver]:
    """``decoder_registry``: JSON, ``@FILE`` with JSON, or the object itself, keyed by decoder URL.

    The keys of the result are URLs in `same_url`'s form. Raises ValueError naming the field;
    OSError's message becomes one. Reads the file at once.
    """
    name = "decoder_registry"
    entries = _parse(name, given) if isinstance(given, str) else given
    if not isinstance(entries, Mapping) or not entries:
        raise ValueError(f"{name}: expected an object keyed by decoder URL, got {entries!r}")
    receivers: dict[str, Receiver] = {}
    for url, fields in entries.items():
        key = checked_url(f"{name} key", url)
        if key in receivers:
            raise ValueError(f"{name}: expected each decoder once, got {url!r} again")
        receivers[key] = read_receiver(f"{name}[{url!r}]", fields)
    return receivers


def _parse(name: str, text: str) -> object:
    source = text
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise ValueError(f"{name}: expected at most {_MAX_FILE_BYTES} bytes in {path}")
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{name}: cannot read {path} ({error})") from None

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
            raise ValueError(f"{name}: expected each name once, got {twice!r} again")
        return found

    try:
        return json.loads(source, object_pairs_hook=once)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name}: expected JSON or @FILE ({error})") from None


class DecoderRegistry:
    """The receiver of the decoder that was chosen. Not thread-safe.

    Args:
        entries: by URL, as `read_registry` gives them.
        only: the receiver of the deployment's one decoder (``--decoder-*``): of the first one that
            is told or asked for and has no entry, and never of another one.
    """

    def __init__(self, entries: Mapping[str, Receiver], only: Receiver | None = None) -> None:
        self._entries = dict(entries)
        self._only = only
        self._only_url: str | None = None

    def decoders_are(self, urls: Iterable[str]) -> None:
        """Tells the fleet's decoders. Raises ValueError for those that nothing is known of."""
        decoders = {same_url(url) for url in urls}
        missing = sorted(decoders - self._entries.keys())
        if missing and len(decoders) == 1:
            self._give_only_to(missing[0])
        unknown = [url for url in missing if url != self._only_url]
        if unknown:
            raise ValueError(self._complaint(unknown[0]))

    def receiver(self, url: str) -> Receiver:
        """Of the decoder at `url`. Raises UnknownDecoderError."""
        key = same_url(url)
        found = self._entries.get(key)
        if found is not None:
            return found
        self._give_only_to(key)
        if self._only is None or key != self._only_url:
            raise UnknownDecoderError(self._complaint(key))
        return self._only

    def _give_only_to(self, url: str) -> None:
        if self._only is not None and self._only_url is None:
            self._only_url = url

    def _complaint(self, url: str) -> str:
        if self._only is None:
            return f"decoder_registry: no entry for decoder {url}"
        owner = "one decoder" if self._only_url is None else self._only_url
        return (
            f"decoder_registry: no entry for decoder {url}; decoder_host and its ports are for "
            f"{owner}"
        )
