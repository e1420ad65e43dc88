"""examples/ray_serve/app.py by its one command, on a cluster that it starts."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cluster_harness import unused_port
from ray_environment import ENVIRONMENT

APP = Path(__file__).resolve().parents[3] / "examples" / "ray_serve" / "app.py"


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[str]:
    """What the application prints when it is ready. It ends by SIGTERM."""
    command = [sys.executable, str(APP), "--replicas", "2", "--ingress-replicas", "1"]
    environment = {**os.environ, **ENVIRONMENT}
    environment.pop("RAY_ADDRESS", None)
    with (tmp_path / "errors").open("w+") as errors:
        process = subprocess.Popen(
            [*command, "--port", str(unused_port())],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            said = next((line for line in lines if line.startswith("curl")), None)
            if said is None:
                errors.seek(0)
                pytest.fail(errors.read())
            yield said
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


async def test_its_curl_line_streams_a_completion_and_finds_it_cached_the_second_time(
    printed: str, http: aiohttp.ClientSession
) -> None:
    url, body = asked(printed)
    first = await streamed(http, url, body)
    assert len(first) > 2
    assert first[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    second = await streamed(http, url, body)
    assert second[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 80
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    async with http.post(url.replace("completions", "chat/completions"), json=chat) as response:
        assert (await response.json())["usage"]["completion_tokens"] == 4
    async with http.post(url, json={"prompt": "a", "max_tokens": 0}) as response:
        assert response.status == 400
        assert "max_tokens" in (await response.json())["error"]["message"]


def asked(curl: str) -> tuple[str, dict[str, Any]]:
    """URL and body of a curl line."""
    words = shlex.split(curl)
    (url,) = (word for word in words if re.match("https?://", word))
    body = json.loads(words[words.index("-d") + 1])
    assert isinstance(body, dict)
    return url, body


async def streamed(
    http: aiohttp.ClientSession, url: str, body: dict[str, Any]
) -> list[dict[str, Any]]:
    """The events of a streamed answer."""
    async with http.post(url, json=body) as response:
        assert response.status == 200, await response.text()
        events = (await response.text()).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
