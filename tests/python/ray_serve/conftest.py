"""The tests on a real Ray cluster: chosen by ``--ray-cluster``, one cluster for all of them.

They take minutes, and Ray beside kvroute's own requirements: `make test-ray` runs them. Without the
option the tests of this folder that need no cluster run.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ray_environment import ENVIRONMENT

if importlib.util.find_spec("ray") is not None:
    os.environ.update(ENVIRONMENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray imports what it has deprecated itself
        importlib.import_module("ray.serve")

if TYPE_CHECKING:
    from cluster_harness import Cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ray-cluster", action="store_true", help="run the tests on a Ray cluster")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    of_cluster = collection_path.name.startswith("test_cluster_")
    return True if of_cluster and not config.getoption("--ray-cluster", False) else None


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The one cluster of all tests."""
    from cluster_harness import Cluster

    started = Cluster()
    yield started
    started.stop()


@pytest.fixture
def own_states(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """The test's deployments are the only ones in the process, by their key."""
    from kvroute.ray_serve import deployment_state

    states: dict[Any, Any] = {}
    monkeypatch.setattr(deployment_state, "_states", states)
    return states


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield session
