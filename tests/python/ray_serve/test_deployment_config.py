"""router_config, and the check of a deployment's options in its replicas."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kvroute.ray_serve import InvalidOptionsError, RouterOptions, router_config
from kvroute.ray_serve.deployment_config import check_own_deployment

serve = pytest.importorskip("ray.serve")

from kvroute.ray_serve import KvRouteRequestRouter  # noqa: E402 (it needs Ray)


def in_replica(monkeypatch: pytest.MonkeyPatch, config: Any) -> None:
    """This process is a replica of a deployment with such a router config from now on."""
    deployment = SimpleNamespace(request_router_config=config)
    context = SimpleNamespace(_deployment_config=deployment)
    monkeypatch.setattr(serve, "get_replica_context", lambda: context)


def test_options_become_rays_configuration() -> None:
    config = router_config(policy="least_load", block_size=32, stats_period_s=0.5)
    assert config.request_router_class == "kvroute.ray_serve:KvRouteRequestRouter"
    assert config.request_router_kwargs == {"policy": "least_load", "block_size": 32}
    assert config.request_routing_stats_period_s == 0.5
    assert RouterOptions.parse(config.request_router_kwargs).block_size == 32


def test_bad_options_are_refused_on_the_driver() -> None:
    with pytest.raises(InvalidOptionsError, match="policy: expected one of .*, got 'best'"):
        router_config(policy="best")
    with pytest.raises(InvalidOptionsError, match="stats_period: .* an unknown option"):
        router_config(stats_period=1)


def test_a_tokenizer_that_cannot_be_loaded_is_refused_on_the_driver(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InvalidOptionsError, match="tokenizer: expected a directory with"):
        router_config(tokenizer=str(tmp_path))


@pytest.mark.parametrize(
    "router",
    [
        KvRouteRequestRouter,
        "kvroute.ray_serve:KvRouteRequestRouter",
        "kvroute.ray_serve.KvRouteRequestRouter",
        "kvroute.ray_serve.request_router:KvRouteRequestRouter",
    ],
)
def test_a_replica_refuses_bad_options_of_a_bare_configuration(
    monkeypatch: pytest.MonkeyPatch, router: Any
) -> None:
    from ray.serve.config import RequestRouterConfig

    config = RequestRouterConfig(
        request_router_class=router, request_router_kwargs={"block_size": 0}
    )
    in_replica(monkeypatch, config)
    with pytest.raises(InvalidOptionsError, match="^request_router_kwargs.block_size: expected 1"):
        check_own_deployment()


def test_a_replica_accepts_good_options(monkeypatch: pytest.MonkeyPatch) -> None:
    in_replica(monkeypatch, router_config(block_size=32))
    check_own_deployment()


@pytest.mark.parametrize(
    "config",
    [
        None,
        SimpleNamespace(),
        SimpleNamespace(
            request_router_class="mine:Router", request_router_kwargs={"block_size": 0}
        ),
        SimpleNamespace(
            request_router_class="kvroute.ray_serve:KvRouteRequestRouter",
            request_router_kwargs=b"{}",
        ),
    ],
)
def test_other_routers_and_other_rays_are_none_of_its_business(
    monkeypatch: pytest.MonkeyPatch, config: Any
) -> None:
    in_replica(monkeypatch, config)
    check_own_deployment()


def test_outside_of_a_replica_nothing_is_checked() -> None:
    check_own_deployment()
