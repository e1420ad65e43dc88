"""A process whose native module is missing: what is named there is refused, what answers works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "kvroute._core":
            raise ModuleNotFoundError("No module named 'kvroute._core'", name=name)

sys.meta_path.insert(0, Missing())
"""


def run(program: str) -> str:
    """What it prints, in a process without the module."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_whole(program: str) -> str:
    """What it prints, in a process that has the module."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def told(statement: str) -> str:
    """What the ImportError of this statement says."""
    return run(f"try:\n    {statement}\nexcept ImportError as error:\n    print(error)")


@pytest.mark.parametrize("name", ["KvRouter", "hash_blocks", "PythonPolicy"])
def test_what_needs_it_says_so(name: str) -> None:
    message = f"kvroute.{name}: the native module is missing: No module named 'kvroute._core'"
    assert message in told(f"from kvroute import {name}")


def test_an_unknown_name_is_unknown_all_the_same() -> None:
    assert run("import kvroute; print(hasattr(kvroute, 'NoSuchName'))").strip() == "False"


def test_what_an_ingress_and_a_replica_use_is_there() -> None:
    names = "EngineFacts, KvRouteReplica, RoutedCall, add_error_handlers, call, stream"
    program = f"from kvroute.ray_serve import {names}; print(len(RoutedCall([1, 2]).token_ids))"
    assert run(program).strip() == "2"


def test_configuring_a_deployment_there_is_refused() -> None:
    pytest.importorskip("ray.serve")
    assert "kvroute._core" in told("from kvroute.ray_serve import router_config; router_config()")


def test_the_routers_class_is_refused_where_it_is_named() -> None:
    pytest.importorskip("ray.serve")
    assert "kvroute._core" in told("from kvroute.ray_serve import KvRouteRequestRouter")


def test_a_router_that_arrives_there_refuses_every_request() -> None:
    """Ray sends the class itself, so that nothing was named in this process."""
    pytest.importorskip("ray.serve")
    pickled = run_whole(
        "from ray import cloudpickle\n"
        "import kvroute.ray_serve, kvroute.ray_serve.request_router as module\n"
        "cloudpickle.register_pickle_by_value(module)\n"
        "print(cloudpickle.dumps(module.KvRouteRequestRouter).hex())"
    )
    answered = run(
        "import asyncio\n"
        "from types import SimpleNamespace\n"
        "from ray import cloudpickle\n"
        f"router_class = cloudpickle.loads(bytes.fromhex('{pickled.strip()}'))\n"
        "router = router_class.__new__(router_class)\n"
        "router._deployment_id = SimpleNamespace(app_name='app', name='Model')\n"
        "router.initialize_state()\n"
        "try:\n"
        "    asyncio.run(router._choose_replica_for_request(None))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)"
    )
    assert answered.startswith("RouterUnavailableError ")
    assert "kvroute._core" in answered
