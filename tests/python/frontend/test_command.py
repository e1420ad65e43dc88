"""`kvroute serve` as a command: its flags, its errors, its life as a process."""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import typer
from frontend_harness import EngineRequest, FakeEngine, answer, replies
from kvroute.cli.serve import register, serve
from kvroute.engines import SimulatedEngineProcess
from kvroute.frontend.disagg_settings import DisaggSettings
from kvroute.frontend.foreign_flags import REFUSED_FLAGS, REPLACED_FLAGS
from typer.testing import CliRunner

MINIMAL = ["--static-backends", "http://127.0.0.1:1", "--static-models", "m"]

SPLIT = ["--routing-logic", "disaggregated_prefill_orchestrated"]


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    register(app)

    @app.command("other")
    def other() -> None: ...

    return CliRunner().invoke(app, ["serve", *arguments])


@pytest.mark.parametrize("flag", sorted(REFUSED_FLAGS))
@pytest.mark.parametrize("joined", [True, False])
def test_a_foreign_flag_is_refused_by_name_with_the_reason(flag: str, joined: bool) -> None:
    result = invoke(*MINIMAL, *([f"{flag}=1"] if joined else [flag, "1"]))
    assert result.exit_code == 2
    assert f"{flag} is not supported: {REFUSED_FLAGS[flag]}" in result.output


@pytest.mark.parametrize("flag", REPLACED_FLAGS)
@pytest.mark.parametrize("joined", [True, False])
def test_a_flag_of_lmcache_s_controller_is_taken_with_a_warning(flag: str, joined: bool) -> None:
    result = invoke(*MINIMAL, *([f"{flag}=9000"] if joined else [flag, "9000"]), "--bogus")
    assert f"{flag} is not used: kvroute learns what engines hold from their own" in result.output
    assert "no such option: --bogus" in result.output


def test_several_of_them_are_warned_of_once() -> None:
    result = invoke(*MINIMAL, *(f"{flag}=1" for flag in REPLACED_FLAGS), "--bogus")
    assert result.output.count("not used") == 1
    assert all(flag in result.output for flag in REPLACED_FLAGS)


def test_one_of_them_without_a_value_is_refused() -> None:
    result = invoke(*MINIMAL, REPLACED_FLAGS[0])
    assert result.exit_code == 2
    assert f"{REPLACED_FLAGS[0]}: expected a value" in result.output


def test_every_setting_of_disaggregation_is_a_flag() -> None:
    names = {parameter.name for parameter in inspect.signature(serve).parameters.values()}
    assert DisaggSettings.model_fields.keys() <= names
    documentation = (Path(__file__).parents[3] / "docs/frontend.md").read_text()
    for name in DisaggSettings.model_fields:
        assert f"`--{name.replace('_', '-')}`" in documentation, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--static-backends: Field required"),
        (["--bogus"], "no such option: --bogus"),
        ([*MINIMAL, "extra"], "no such option: extra"),
        ([*MINIMAL, "--service-discovery", "k8s"], "--service-discovery k8s is not supported"),
        ([*MINIMAL, "--block-size", "0"], "--block-size"),
        ([*MINIMAL, "--kv-events", "a,b"], "kv_events: expected 1 elements, got 2"),
        ([*MINIMAL, "--config", "/does/not/exist"], "/does/not/exist: No such file"),
        ([*MINIMAL, "--routing-threshold", "5"], "routing_threshold: expected it with"),
        ([*MINIMAL, *SPLIT, "--proxy-port", "5"], "proxy_port: the connector nixl has no use"),
        ([*MINIMAL, *SPLIT, "--disagg-connector-type", "smoke"], "there is none of this name"),
        (
            [*MINIMAL, *SPLIT, "--disagg-connector-type", "lmcache", "--decoder-registry", "{"],
            "decoder_registry: expected JSON or @FILE",
        ),
    ],
)
def test_wrong_arguments_end_the_command_with_a_line(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


@asynccontextmanager
async def serving(
    *arguments: str, stderr: int | None = None, before: str = ""
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The command as a process; gives it and its URL once it is ready, and ends it."""
    program = before + (
        "import typer; from kvroute.cli.serve import register; app = typer.Typer(); "
        "register(app); app.command('other')(lambda: None); app()"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        assert line, await process.wait()
        ready = json.loads(line)
        assert ready["event"] == "ready"
        assert ready["pid"] == process.pid
        yield process, ready["http"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_process_serves_and_ends_on_a_signal() -> None:
    async with FakeEngine(replies(answer({"id": "x"}))) as engine:
        arguments = ["--static-backends", engine.url, "--static-models", "m"]
        async with serving(*arguments) as (process, url):
            async with aiohttp.ClientSession() as client:
                body = {"model": "m", "prompt": [1, 2]}
                async with client.post(url + "/v1/completions", json=body) as got:
                    assert got.headers["x-kvroute-worker"] == engine.url
                    assert await got.json() == {"id": "x"}
                async with client.get(url + "/version") as got:
                    assert (await got.json())["version"]
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_simulated_engines_answer_a_streamed_chat_in_two_legs() -> None:
    with (
        SimulatedEngineProcess(model="m", kv_connector="nixl", kv_role="prefill") as prefill,
        SimulatedEngineProcess(model="m", kv_connector="nixl", kv_role="decode") as decode,
    ):
        arguments = [
            *("--static-backends", f"{prefill.http_url},{decode.http_url}"),
            *("--static-models", "m", "--static-model-labels", "p,d"),
            *("--prefill-model-labels", "p", "--decode-model-labels", "d"),
            *("--load-balancing-strategy", "least_loaded"),
            *("--prefill-load-balancing-strategy", "kv", "--disagg-connector-type", "nixl"),
            *("--routing-threshold", "8", "--token-estimate", "chars"),
        ]
        async with (
            serving(*arguments, *SPLIT) as (_, url),
            aiohttp.ClientSession() as client,
        ):

            async def chat(at: str, content: str) -> tuple[str, Any]:
                body = {
                    "model": "m",
                    "messages": [{"role": "user", "content": content}],
                    "max_tokens": 9,
                    "stream": True,
                }
                async with client.post(at + "/v1/chat/completions", json=body) as got:
                    assert got.status == 200
                    *events, last = (await got.text()).strip().split("\n\n")
                    assert last == "data: [DONE]"
                    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
                    deltas = [one["delta"].get("content") for c in chunks for one in c["choices"]]
                    return "".join(filter(None, deltas)), got.headers

            question = "Why does a long prompt go to two engines?"
            text, headers = await chat(url, question)
            assert headers["x-kvroute-prefill-worker"] == prefill.http_url
            assert headers["x-kvroute-worker"] == decode.http_url
            short, headers = await chat(url, "Why?")
            assert "x-kvroute-prefill-worker" not in headers
            assert text == (await chat(decode.http_url, question))[0]
            assert short == (await chat(decode.http_url, "Why?"))[0]


async def test_a_request_that_never_ends_does_not_hold_the_process_up() -> None:
    reached = asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        reached.set()
        await request.left()

    async with FakeEngine(handler) as engine:
        arguments = ["--static-backends", engine.url, "--static-models", "m"]
        async with (
            serving(*arguments, "--graceful-shutdown-seconds", "1") as (process, url),
            aiohttp.ClientSession() as client,
        ):
            body = {"model": "m", "prompt": [1, 2]}

            async def ask() -> int:
                async with client.post(url + "/v1/completions", json=body) as got:
                    return got.status

            request = asyncio.create_task(ask())
            await reached.wait()
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 20)
            (outcome,) = await asyncio.gather(request, return_exceptions=True)
            assert outcome == 500 or isinstance(outcome, aiohttp.ClientError)


@pytest.mark.parametrize(
    ("level", "said"), [("debug", True), ("info", True), ("warning", True), ("error", False)]
)
async def test_the_log_level_holds_for_kvroutes_own_loggers(
    unused_url: str, level: str, said: bool
) -> None:
    arguments = ["--static-backends", unused_url, "--static-models", "m", "--log-level", level]
    async with serving(*arguments, stderr=asyncio.subprocess.PIPE) as (process, url):
        async with aiohttp.ClientSession() as client:
            body = {"model": "m", "prompt": [1, 2]}
            async with client.post(url + "/v1/completions", json=body) as got:
                assert got.status == 503
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        log = (await asyncio.wait_for(process.stderr.read(), 20)).decode()
    warnings = [line for line in log.splitlines() if "WARNING kvroute.frontend: " in line]
    assert any(unused_url in line for line in warnings) is said
    assert ("DEBUG kvroute.frontend: " in log) is (level == "debug")


async def test_the_process_may_open_as_many_files_as_its_hard_limit_allows() -> None:
    before = (
        "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)); "
    )
    async with serving(*MINIMAL, before=before) as (process, _):
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
        soft, hard = line.split()[3:5]
        assert soft == hard != "256"


async def test_a_port_in_use_is_an_error_of_one_line() -> None:
    async with FakeEngine(replies(answer())) as engine:
        port = engine.url.rpartition(":")[2]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import typer; from kvroute.cli.serve import register; app = typer.Typer(); "
            "register(app); app.command('other')(lambda: None); app()",
            "serve",
            *MINIMAL,
            "--host",
            "127.0.0.1",
            "--port",
            port,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert b"Address already in use" in errors
        assert b"Traceback" not in errors


async def test_a_notice_port_in_use_is_an_error_of_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kvroute", "serve", "--host", "127.0.0.1", "--port", "0"),
            *(*MINIMAL, *SPLIT, "--disagg-connector-type", "lmcache"),
            *("--decoder-host", "d", "--decoder-init-port", "1", "--decoder-alloc-port", "2"),
            *("--proxy-host", "127.0.0.1", "--proxy-port", port),
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 3
    assert b"proxy_port: cannot bind 127.0.0.1:" + port.encode() in errors
    assert b"Traceback" not in errors


def test_a_bad_tokenizer_directory_ends_the_command(tmp_path: Path) -> None:
    result = invoke(*MINIMAL, "--tokenizer", str(tmp_path))
    assert result.exit_code == 2
    assert "tokenizer.json" in result.output
