"""The engines' own data plane: questions between engines, one JSON line each way over TCP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias

import orjson

from kvroute.deadline import within
from kvroute.engines.errors import EngineError, RequestRefusedError
from kvroute.engines.transfer.faults import DroppedError, FaultError

Answer: TypeAlias = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

_MAX_LINE = 16 << 20
_READ_TIMEOUT = 30.0


class TransferFailedError(EngineError, RuntimeError):
    """Blocks could not be handed over; `reason` is short and counted, the message says more.

    `is_counted` where this engine's ledger knows of it.
    """

    def __init__(self, reason: str, message: str, *, is_counted: bool = False) -> None:
        super().__init__(f"kv transfer: {message}")
        self.reason = reason
        self.is_counted = is_counted


class SideChannel:
    """A listening port of an engine. One question a connection; who leaves takes it back.

    `answer` is given the question and raises TransferFailedError for a refusal. A connection that
    begins with ``GET path`` is answered in HTTP: the question is ``{"op": "get", "path": path}``.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self, host: str, port: int) -> None:
        """Listen; port 0 is chosen by the system."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=_MAX_LINE)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening; whoever waits for an answer gets none. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, ValueError, TimeoutError, asyncio.TimeoutError):
                await self._converse(reader, writer)
        except asyncio.CancelledError:
            pass  # the engine stops: nobody waits for this task but close()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await asyncio.wait_for(reader.readline(), _READ_TIMEOUT)
        is_http = line.startswith(b"GET ")
        if is_http:
            while await asyncio.wait_for(reader.readline(), _READ_TIMEOUT) not in {b"\r\n", b""}:
                pass
            question = {"op": "get", "path": line.split()[1].decode("latin-1")}
        else:
            question = orjson.loads(line)
        work = asyncio.ensure_future(self._outcome(question))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done() and (outcome := work.result()) is not None:
                writer.write(_http(outcome) if is_http else orjson.dumps(outcome) + b"\n")
                await writer.drain()
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _outcome(self, question: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return await self._answer(question)
        except TransferFailedError as error:
            return {"error": str(error), "reason": error.reason}
        except (FaultError, RequestRefusedError) as error:
            reason = "fault" if isinstance(error, FaultError) else "question"
            return {"error": str(error), "reason": reason}
        except DroppedError:
            return None


async def ask(host: str, port: int, question: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Another engine's answer. Raises TransferFailedError where it refuses, is not there, leaves
    or does not answer within `timeout` seconds; cancelling leaves the connection."""
    return await _answer(host, port, orjson.dumps(question) + b"\n", timeout)


async def get(host: str, port: int, path: str, timeout: float) -> dict[str, Any]:
    """What a side channel answers to ``GET path``; errors as of `ask`."""
    head = f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n"
    return await _answer(host, port, head.encode(), timeout)


async def ask_all(questions: Sequence[Coroutine[Any, Any, Any]]) -> None:
    """Waits for all of them at once; when one fails, or it is cancelled, all others are too."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(host: str, port: int, said: bytes, timeout: float) -> dict[str, Any]:
    where = f"{host}:{port}"
    try:
        line = await within(timeout, _exchange(host, port, said))
        if not line.endswith(b"}\n"):
            raise TransferFailedError("closed", f"{where} closed the connection")
        answer: dict[str, Any] = orjson.loads(line)
    except asyncio.TimeoutError as error:
        message = f"{where} did not answer within {timeout:g} s"
        raise TransferFailedError("timeout", message) from error
    except (OSError, ValueError) as error:
        raise TransferFailedError("unreachable", f"{where}: {error}") from error
    if "error" in answer:
        raise TransferFailedError(answer.get("reason", "error"), f"{where}: {answer['error']}")
    return answer


async def _exchange(host: str, port: int, said: bytes) -> bytes:
    """The line that answers; of HTTP the body, whatever the status."""
    reader, writer = await asyncio.open_connection(host, port, limit=_MAX_LINE)
    try:
        writer.write(said)
        await writer.drain()
        line = await reader.readline()
        if line.startswith(b"HTTP/"):
            while line not in {b"\r\n", b""}:
                line = await reader.readline()
            line = await reader.readline()
        return line
    finally:
        writer.close()


def _http(outcome: dict[str, Any]) -> bytes:
    status = b"404 Not Found" if "error" in outcome else b"200 OK"
    body = orjson.dumps(outcome) + b"\n"
    return (
        b"HTTP/1.1 " + status + b"\r\ncontent-type: application/json\r\nconnection: close\r\n"
        b"content-length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
