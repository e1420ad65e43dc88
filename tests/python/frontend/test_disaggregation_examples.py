"""The page of worked examples runs as it stands, and shows what it says."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from disagg_harness import reserved_port

PAGE = Path(__file__).resolve().parents[3] / "docs" / "disaggregation-examples.md"
FENCE = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"\b18\d{3}\b")
TIMEOUT = 30.0

pytestmark = pytest.mark.timeout(120)


@dataclass
class Example:
    """Of one section: the servers' commands, the clients', and what these print."""

    title: str
    servers: list[str] = field(default_factory=list)
    clients: list[list[str]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


def examples() -> list[Example]:
    found = []
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        example = Example(section.partition(":")[0])
        asked: list[str] = []
        for kind, block in FENCE.findall(section):
            if kind == "text":
                example.clients.append(asked)
                example.shown.append(block)
                asked = []
                continue
            for command in commands(block):
                (example.servers if command.endswith("&") else asked).append(command)
        assert not asked, "a command without what it shows"
        found.append(example)
    return found


def commands(block: str) -> list[str]:
    """The commands of a shell block: what begins at the left margin begins a new one."""
    starts = re.split(r"^(?=\S)", block.replace("\\\n", " "), flags=re.MULTILINE)
    return [command.strip() for command in starts if command.strip()]


@contextlib.contextmanager
def server(command: str) -> Iterator[None]:
    """One of kvroute's commands as a process that serves."""
    name, *arguments = shlex.split(command.removesuffix("&"))
    assert name == "kvroute"
    process = subprocess.Popen(
        [sys.executable, "-m", "kvroute", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate(timeout=TIMEOUT)[1])
        assert json.loads(line)["event"] == "ready"
        yield
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT)


def printed(command: str) -> list[str]:
    """What `curl ... | grep PATTERN` prints."""
    words = shlex.split(command)
    assert words[0] == "curl"
    pipe = words.index("|")
    given, grep, pattern = words[1:pipe], *words[pipe + 1 :]
    assert grep == "grep"
    options = dict(itertools.pairwise(given))
    url = next(word for word in given if word.startswith("http"))
    headers = dict([options["-H"].split(": ")]) if "-H" in options else {}
    data = options["-d"].encode() if "-d" in options else None
    request = urllib.request.Request(url, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        lines = [f"{name}: {value}" for name, value in answer.headers.items()]
        lines += answer.read().decode().splitlines()
    return [line for line in lines if pattern in line and not line.startswith("#")]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.title)
def test_an_example_shows_what_the_page_says(example: Example) -> None:
    ports = sorted({*PORT.findall("\n".join(example.servers))})

    def placed(text: str) -> str:
        return PORT.sub(lambda port: given[port[0]], text)

    with contextlib.ExitStack() as stack:
        free = sorted(stack.enter_context(reserved_port()) for _ in ports)
        given = dict(zip(ports, map(str, free), strict=True))
        for command in example.servers:
            stack.enter_context(server(placed(command)))
        for asked, shown in zip(example.clients, example.shown, strict=True):
            lines = [line for command in asked for line in printed(placed(command))]
            assert lines == placed(shown).splitlines()
