"""The class as Ray takes it to every process: pickled by value, its state found by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("ray.serve")

from ray import cloudpickle
from ray.serve.config import RequestRouterConfig


def as_ray_pickles(router_class: object) -> bytes:
    config = RequestRouterConfig(request_router_class=router_class)
    return config._serialized_request_router_cls


@pytest.mark.parametrize(
    "named",
    [
        "kvroute.ray_serve:KvRouteRequestRouter",
        "kvroute.ray_serve.request_router.KvRouteRequestRouter",
    ],
)
def test_the_pickled_class_is_small_and_holds_nothing_of_kvroute_but_itself(named):
    pickled = as_ray_pickles(named)
    assert len(pickled) < 12_000  # the path of its file is in it, once for each method
    assert b"_states" not in pickled
    assert b"_core" not in pickled
    made = cloudpickle.loads(pickled)
    of_kvroute = {
        name
        for method in vars(made).values()
        for name, value in getattr(method, "__globals__", {}).items()
        if getattr(value, "__module__", "").startswith("kvroute")
    }
    assert of_kvroute <= {"KvRouteRequestRouter"}


def test_each_handle_of_a_process_that_has_imported_nothing_finds_the_one_state(tmp_path):
    pickled = tmp_path / "class"
    pickled.write_bytes(as_ray_pickles("kvroute.ray_serve:KvRouteRequestRouter"))
    program = f"""
import pathlib, sys
from ray import cloudpickle
from ray.serve._private.common import DeploymentHandleSource, DeploymentID
routers = []
for _ in range(2):
    made = cloudpickle.loads(pathlib.Path({str(pickled)!r}).read_bytes())
    imported = [name for name in sys.modules if name.startswith("kvroute")]
    assert routers or not imported, imported
    router = made(deployment_id=DeploymentID("d"), handle_source=DeploymentHandleSource.REPLICA)
    router.initialize_state(exchange=False, metrics=False)
    assert router._kvroute_state is not None, router._kvroute_failure
    routers.append(router)
assert routers[0]._kvroute_state is routers[1]._kvroute_state
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_without_ray_the_package_imports_and_says_what_is_missing():
    program = """
import sys
sys.modules["ray"] = None
import kvroute.ray_serve
from kvroute.ray_serve import RouterOptions, deployment_state
try:
    kvroute.ray_serve.KvRouteRequestRouter
except ImportError as error:
    assert "pip install 'kvroute[ray]'" in str(error), error
else:
    raise AssertionError("imported")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
