from __future__ import annotations

import sys
from pathlib import Path

import pytest
from kvroute.disagg.registry import (
    DEFAULT_CONNECTOR,
    GROUP,
    ConnectorError,
    connector_names,
    connector_type,
    make_connector,
    option_names,
)

OWN = ("nixl", "lmcache", "sglang", "mooncake", "p2p_nccl", "shared_storage")
PLUGIN = """
from dataclasses import dataclass
from kvroute.disagg.connectors.nixl import NixlConnector

@dataclass(frozen=True)
class Options:
    size: int = 1

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size: expected at least 1, got {self.size}")

class Mine(NixlConnector):
    name = "mine"
    options_type = Options

class NoOptions(NixlConnector):
    options_type = dict

other = 5
"""


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, entries: dict[str, str]
) -> None:
    """A package with entry points, as an installer leaves it."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
    (folder / f"{package}.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, package, raising=False)


def test_the_projects_own_connectors_are_there_by_name() -> None:
    assert connector_names()[: len(OWN)] == OWN
    assert DEFAULT_CONNECTOR == "nixl"
    for name in OWN:
        assert connector_type(name).name == name
        assert connector_type(name).is_concurrent is (name in ("sglang", "mooncake"))
        assert connector_type(name).needs_token_ids is (name == "lmcache")


def test_another_packages_connector_is_found_and_given_its_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, "some_plugin", {"mine": "some_plugin:Mine"})
    assert connector_names() == (*OWN, "mine")
    connector = make_connector("mine", {"size": 3})
    assert (connector.name, connector.options.size) == ("mine", 3)  # type: ignore[attr-defined]
    with pytest.raises(ConnectorError, match="connector 'mine': size: expected at least 1, got 0"):
        make_connector("mine", {"size": 0})


def test_a_broken_package_is_named_and_only_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entries = {
        "gone": "not_there:X",
        "lost": "bad_plugin:Missing",
        "other": "bad_plugin:other",
        "bare": "bad_plugin:NoOptions",
    }
    install(monkeypatch, tmp_path, "bad_plugin", entries)
    assert set(entries) <= set(connector_names())
    make_connector("nixl")
    for name, message in {
        "gone": "connector 'gone' of bad_plugin: cannot load not_there:X .ModuleNotFoundError",
        "lost": "connector 'lost' of bad_plugin: cannot load bad_plugin:Missing",
        "other": "connector 'other': expected a subclass of Connector, got 5",
        "bare": "connector 'bare': expected a dataclass as its options_type",
    }.items():
        with pytest.raises(ConnectorError, match=message):
            make_connector(name)


def test_two_packages_with_one_name_are_named_and_the_projects_own_win(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for package in ("plugin_a", "plugin_b"):
        folder = tmp_path / package
        folder.mkdir()
        entries = {"twice": f"{package}:Mine", "nixl": f"{package}:Mine"}
        install(monkeypatch, folder, package, entries)
    with pytest.raises(
        ConnectorError, match="connector 'twice': declared by plugin_a and plugin_b"
    ):
        make_connector("twice")
    assert make_connector("nixl").name == "nixl"
    assert connector_names() == (*OWN, "twice")


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        ConnectorError, match="connector 'nxil': there is none .* there are nixl, lm"
    ):
        make_connector("nxil")


def test_an_option_of_another_connector_is_refused_and_none_is_not_given() -> None:
    make_connector("nixl", {"decoder_host": None})
    with pytest.raises(
        ConnectorError, match="connector 'nixl': no option 'decoder_host'; it takes none"
    ):
        make_connector("nixl", {"decoder_host": "d"})
    with pytest.raises(ConnectorError, match="no option 'entries'; it takes decoder_registry, "):
        make_connector("lmcache", {"entries": {}})
    assert option_names("sglang") == ("bootstrap_port", "bootstrap_ports")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "kvroute.disagg.connectors.lmcache", raising=False)
    monkeypatch.delitem(sys.modules, "kvroute.disagg.connectors.notices", raising=False)
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ConnectorError, match=r"'lmcache': needs the package msgpack: .*\[serve\]"):
        connector_type("lmcache")
