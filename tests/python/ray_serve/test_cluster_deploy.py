"""What cannot work is refused when it is deployed, or answered with an error: nothing hangs."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from cluster_apps import Model
from cluster_harness import AppSpec, Cluster, prompt, python_path
from kvroute.ray_serve import InvalidOptionsError
from ray import serve
from ray.serve.config import RequestRouterConfig

ROUTER = "kvroute.ray_serve:KvRouteRequestRouter"

BROKEN = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "kvroute._core":
            raise ModuleNotFoundError("No module named 'kvroute._core'", name=name)


sys.meta_path.insert(0, Missing())
"""


async def test_a_process_without_the_native_module_answers_503(
    cluster: Cluster, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Serve calls such an application ready, and would let each of its requests wait."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN, encoding="utf-8")
    environment = {"PYTHONPATH": f"{tmp_path}:{python_path()}"}
    spec = AppSpec("broken", replicas=1, ingress_environment=environment)
    with cluster.running(spec) as (app,):
        for stream in (False, True):
            body = {"ids": prompt(0), "stream": stream}
            async with http.post(f"{app.url}/generate", json=body) as response:
                assert response.status == 503
                assert "kvroute._core" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"polcy": "kv_cost"}, "polcy: expected .* the nearest is policy"),
        ({"policy": "fastest"}, "policy: expected .*fastest"),
        ({"block_size": 0}, "block_size: expected .* got 0"),
    ],
)
def test_bad_options_are_refused_before_anything_is_deployed(
    cluster: Cluster, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidOptionsError, match=message):
        cluster.deploy(AppSpec("refused", router=options))


@pytest.mark.usefixtures("cluster")
def test_bad_options_of_a_config_by_hand_fail_the_deployment_with_their_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = RequestRouterConfig(
        request_router_class=ROUTER, request_router_kwargs={"on_missing_tokens": "explode"}
    )
    model = serve.deployment(
        Model, num_replicas=1, ray_actor_options={"num_cpus": 0}, request_router_config=config
    )
    try:
        with pytest.raises(RuntimeError):
            serve.run(model.bind(), name="by-hand", route_prefix="/by-hand")
        (deployment,) = serve.status().applications["by-hand"].deployments.values()
        told = deployment.message + capsys.readouterr().err
        assert "request_router_kwargs.on_missing_tokens: expected" in told
    finally:
        serve.delete("by-hand", _blocking=False)


async def test_missing_token_ids_are_refused_with_400_where_that_is_asked_for(
    cluster: Cluster, http: aiohttp.ClientSession
) -> None:
    spec = AppSpec("strict", replicas=1, router={"on_missing_tokens": "error"})
    with cluster.running(spec) as (app,):
        for ids in (None, []):
            for stream in (False, True):
                assert await app.status(http, ids, prompt="text", stream=stream) == 400
        assert await app.status(http, prompt(0), max_tokens=1) == 200
