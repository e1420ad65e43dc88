"""Shared storage between two engines: found by content, computed where it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kvroute.engines import SimulatedEngine
from kvroute.engines.errors import InvalidConfigError
from transfer_harness import BLOCK, PROMPT, SHORT, pair

BLOCKS = len(PROMPT) // BLOCK


async def test_two_legs_say_what_one_engine_says(tmp_path: Path) -> None:
    async with pair("shared_storage", kv_shared_path=tmp_path) as engines:
        body = {"prompt": PROMPT, "max_tokens": 30}
        whole = await engines.text(engines.single, body)
        status, first = await engines.post(engines.prefill, {"prompt": PROMPT, "max_tokens": 1})
        assert (status, first["kv_transfer_params"]) == (200, None)
        status, second = await engines.post(engines.decode, body)
        assert (status, second["choices"][0]["text"]) == (200, whole)
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == BLOCKS * BLOCK
        state = await engines.state(engines.decode)
        assert (state["received_blocks"], state["missed"]) == (BLOCKS, {})
        engines.check_nothing_is_held()


@pytest.mark.parametrize("prompt", [PROMPT, SHORT])
async def test_what_is_not_stored_is_computed(tmp_path: Path, prompt: list[int]) -> None:
    async with pair("shared_storage", kv_shared_path=tmp_path) as engines:
        body = {"prompt": prompt, "max_tokens": 9}
        assert await engines.text(engines.decode, body) == await engines.text(engines.single, body)
        missed = (await engines.state(engines.decode))["missed"]
        assert missed == ({"not_stored": 1} if prompt is PROMPT else {})


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_tokens", 2), ("max_completion_tokens", 2), ("kv_transfer_params", {"a": 1})],
)
async def test_a_wrong_prefill_leg_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    async with pair("shared_storage", kv_shared_path=tmp_path) as engines:
        body = {"prompt": PROMPT, "max_tokens": 1, name: value}
        status, answer = await engines.post(engines.prefill, body)
        assert (status, answer["error"]["param"].split(".")[0]) == (400, name)
        assert not list(tmp_path.iterdir())


def test_it_needs_a_directory() -> None:
    with pytest.raises(InvalidConfigError, match="kv_shared_path"):
        SimulatedEngine(kv_connector="shared_storage")
