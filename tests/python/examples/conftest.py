"""Fixtures of the examples' tests; makes the harness beside this file importable."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

sys.path.insert(0, str(Path(__file__).parent))

from example_harness import StandaloneExample, running_process


@pytest.fixture(scope="session")
def standalone() -> Iterator[StandaloneExample]:
    """An example that many tests share; none may break it."""
    example = StandaloneExample()
    yield example
    example.stop()


@pytest.fixture
def start_standalone() -> Iterator[Callable[..., StandaloneExample]]:
    """Starts examples that a test may break."""
    started: list[StandaloneExample] = []

    def start(*arguments: str) -> StandaloneExample:
        started.append(StandaloneExample(arguments))
        return started[-1]

    yield start
    for example in started:
        for pid in filter(None, (example.router_pid, *example.engine_pids)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        example.stop()
        for pid in filter(running_process, (example.router_pid, *example.engine_pids)):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with a chat template that shows roles and tools."""
    directory = tmp_path_factory.mktemp("tokenizer")
    alphabet = ["<|role|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|role|>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(
        "{% if tools %}<|role|>tools {{ tools | tojson }}{% endif %}"
        "{% for message in messages %}<|role|>{{ message.role }} {{ message.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|role|>assistant {% endif %}"
    )
    return directory
