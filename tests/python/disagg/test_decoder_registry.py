from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kvroute.disagg.connectors.decoder_registry import (
    DecoderRegistry,
    Receiver,
    UnknownDecoderError,
    read_registry,
)

ENTRY = {"receiver_host": "r", "receiver_init_port": 8300, "receiver_alloc_port": 8400}
URL = "http://d:8200"


def test_a_registry_is_read_from_json_a_file_or_an_object(tmp_path: Path) -> None:
    entries = {"http://D:8200/": ENTRY, "https://e": {**ENTRY, "receiver_init_port": [8300]}}
    path = tmp_path / "decoders.json"
    path.write_text(json.dumps(entries))
    receiver = Receiver("r", (8300,), (8400,))
    expected = {URL: receiver, "https://e:443": receiver}
    for given in (entries, json.dumps(entries), f"@{path}"):
        assert read_registry(given) == expected


def test_ports_are_one_or_one_for_each_rank() -> None:
    several = {**ENTRY, "receiver_init_port": [1, 2], "receiver_alloc_port": [3, 4]}
    receiver = read_registry({URL: several})[URL]
    assert receiver.ranks == 2
    assert receiver.spec("id") == {
        "req_id": "id",
        "receiver_host": "r",
        "receiver_init_port": [1, 2],
        "receiver_alloc_port": [3, 4],
    }
    receiver.spec("id")["receiver_init_port"].clear()
    assert receiver.spec("id")["receiver_init_port"] == [1, 2]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ENTRY.items() if key != name}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", "decoder_registry: expected JSON or @FILE"),
        ("[" * 100_000, "decoder_registry: expected JSON or @FILE"),
        ("[]", "decoder_registry: expected an object keyed by decoder URL"),
        ({}, "decoder_registry: expected an object keyed by decoder URL"),
        ("@/no/such/file", "decoder_registry: cannot read /no/such/file"),
        ({"d:8200": ENTRY}, "decoder_registry key: expected an http.* URL, got 'd:8200'"),
        ({"http://": ENTRY}, "decoder_registry key: expected an http.* URL"),
        ({"http://d:x": ENTRY}, "decoder_registry key: expected an http.* URL"),
        ({URL: ENTRY, "HTTP://d:8200/": ENTRY}, "expected each decoder once, got 'HTTP://d:8200/'"),
        ('{"http://d": {}, "http://d": {}}', "expected each name once, got 'http://d' again"),
        ({URL: 5}, r"decoder_registry\['http://d:8200'\]: expected an object, got 5"),
        ({URL: without("receiver_host")}, "receiver_host: expected one, got none"),
        ({URL: without("receiver_init_port")}, "receiver_init_port: expected one, got none"),
        ({URL: without("receiver_alloc_port")}, "receiver_alloc_port: expected one, got none"),
        ({URL: {**ENTRY, "port": 5}}, r"\.port: expected receiver_host, receiver_init_port"),
        ({URL: {**ENTRY, "init_port": 5}}, "expected receiver_host, receiver_init_port.* once"),
        ({URL: {**ENTRY, "receiver_host": ""}}, "receiver_host: expected a host's name"),
        ({URL: {**ENTRY, "receiver_host": "http://r"}}, "receiver_host: expected a host's name"),
        ({URL: {**ENTRY, "receiver_init_port": 0}}, "receiver_init_port: expected a port from 1"),
        ({URL: {**ENTRY, "receiver_init_port": True}}, "receiver_init_port: expected a port"),
        ({URL: {**ENTRY, "receiver_init_port": 8300.0}}, "receiver_init_port: expected a port"),
        ({URL: {**ENTRY, "receiver_init_port": []}}, "for each tensor-parallel rank, got none"),
        ({URL: {**ENTRY, "receiver_init_port": [1, "2"]}}, r"init_port\[1\]: expected a port"),
        ({URL: {**ENTRY, "receiver_init_port": [1, 1]}}, "expected different ports, got"),
        ({URL: {**ENTRY, "receiver_init_port": [1, 2]}}, r"as many ports as .* \(2\), got 1"),
    ],
)
def test_a_wrong_registry_is_refused_naming_the_field(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_registry(given)


def test_an_entry_goes_before_the_receiver_of_the_only_decoder() -> None:
    only = Receiver("only", (1,), (2,))
    registry = DecoderRegistry(read_registry({URL: ENTRY}), only)
    assert registry.receiver("HTTP://D:8200/").host == "r"
    assert registry.receiver("http://e").host == "only"


def test_the_only_receiver_is_the_first_decoder_s_whatever_becomes_of_the_fleet() -> None:
    registry = DecoderRegistry(read_registry({URL: ENTRY}), Receiver("only", (1,), (2,)))
    registry.decoders_are(["http://e"])
    assert registry.receiver("http://e:80").host == "only"
    registry.decoders_are([])
    with pytest.raises(ValueError, match="http://f:80; decoder_host .* for http://e:80"):
        registry.decoders_are(["http://f"])
    with pytest.raises(UnknownDecoderError, match="http://f:80; decoder_host .* for http://e:80"):
        registry.receiver("http://f")
    registry.decoders_are([URL, "http://e"])
    assert registry.receiver("http://e").host == "only"


def test_the_only_receiver_is_not_for_one_of_several() -> None:
    registry = DecoderRegistry({}, Receiver("only", (1,), (2,)))
    with pytest.raises(ValueError, match="http://e:80; decoder_host .* for one decoder"):
        registry.decoders_are(["http://e", "http://f"])


def test_without_an_entry_the_decoder_is_named() -> None:
    registry = DecoderRegistry(read_registry({URL: ENTRY}))
    with pytest.raises(UnknownDecoderError, match="no entry for decoder http://e:80"):
        registry.receiver("http://e")
    with pytest.raises(ValueError, match="no entry for decoder http://e:80"):
        registry.decoders_are([URL, "http://e"])
