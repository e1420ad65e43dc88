"""Handles, their answers and the router's bookings, as far as an ingress's calls see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

from kvroute.ray_serve.calls import CallTokenIds


class FakeBooking:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def first_token(self) -> None:
        self.told.append("first_token")

    def progress(self, output_tokens: int) -> None:
        self.told.append(output_tokens)

    def release(self, output_token_ids: Any = None) -> None:
        self.told.append(("release", output_token_ids))


class Response:
    """Ray's response generator, as far as it is used. Gives `items`, raising those that are
    exceptions; without items it waits for ever."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = iter(items)
        self._waits = not items
        self.cancelled = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(3600 if self._waits else 0)
        for item in self._items:
            if isinstance(item, Exception):
                raise item
            return item
        raise StopAsyncIteration

    def cancel(self) -> None:
        self.cancelled = True


class Method:
    """A method of a handle; its router books the call as soon as it is made."""

    deployment_id = SimpleNamespace(app_name="app", name="Model")

    def __init__(self, *items: Any) -> None:
        self.items = items
        self.args: tuple[Any, ...] | None = None
        self.kwargs: dict[str, Any] = {}
        self.booking = FakeBooking()

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        self.args, self.kwargs = args, kwargs
        for value in kwargs.values():
            if type(value) is CallTokenIds:
                value.call.bind(self.booking)
        self.response = Response(self.items)
        return self.response


class UnaryMethod(Method):
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        super().remote(*args, **kwargs)

        async def answer() -> Any:
            return "answer"

        return answer()
