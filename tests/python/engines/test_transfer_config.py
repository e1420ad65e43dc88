"""The settings of connectors, and an engine with one as a process."""

from __future__ import annotations

from typing import Any

import pytest
from kvroute.engines import CostModel, SimulatedEngine, SimulatedEngineProcess
from kvroute.engines.config import EngineConfig, KvRole
from kvroute.engines.errors import InvalidConfigError


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"kv_connector": "x"}, "kv_connector"),
        ({"kv_notice": "x"}, "kv_notice"),
        ({"kv_port": 70000}, "kv_port"),
        ({"kv_init_ports": (1, 2)}, "kv_init_ports"),
        ({"kv_alloc_ports": (-1,)}, "kv_alloc_ports"),
        ({"kv_connector": "lmcache"}, "kv_proxy_port"),
        ({"kv_connector": "shared_storage"}, "kv_shared_path"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size"),
        ({"transfer_expiry": 0.0}, "transfer_expiry"),
        ({"rendezvous_timeout": float("inf")}, "rendezvous_timeout"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidConfigError, match=name):
        EngineConfig(**settings)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("both", KvRole.BOTH),
        ("kv_both", KvRole.BOTH),
        ("prefill", KvRole.PREFILL),
        ("kv_producer", KvRole.PREFILL),
        ("decode", KvRole.DECODE),
        ("kv_consumer", KvRole.DECODE),
    ],
)
def test_roles_have_our_names_and_vllm_s(name: str, role: KvRole) -> None:
    assert KvRole.parse(name) is role


def test_another_role_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="kv_role"):
        KvRole.parse("kv_nobody")


def test_a_transfer_takes_its_bytes_over_the_bandwidth() -> None:
    cost = CostModel(kv_bytes_per_token=1000.0, transfer_bandwidth=1e6, speed=2.0)
    assert cost.transfer_seconds(500) == pytest.approx(0.25)


async def test_an_engine_without_a_connector_has_no_address() -> None:
    async with SimulatedEngine(cost=CostModel(speed=1000)) as engine:
        assert engine.kv_transfer is None


def test_a_process_says_where_its_connector_is() -> None:
    with SimulatedEngineProcess(
        kv_connector="lmcache", kv_role="kv_consumer", tensor_parallel_size=2, speed=100
    ) as engine:
        address = engine.kv_transfer
    assert address is not None
    assert (address["connector"], address["role"]) == ("lmcache", "decode")
    ports = address["receiver_init_port"] + address["receiver_alloc_port"]
    assert len(set(ports)) == 4
    assert min(ports) > 0
