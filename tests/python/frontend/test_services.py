"""What the frontend holds open is closed, whatever fails."""

from __future__ import annotations

import asyncio

import pytest
from fake_router import FakeRouter
from kvroute.frontend.settings import Settings


class FailingRouter(FakeRouter):
    """Cannot be closed."""

    def close(self) -> None:
        super().close()
        raise RuntimeError("stuck")


async def test_what_cannot_be_closed_keeps_nothing_else_open() -> None:
    from kvroute.frontend.services import Services

    settings = Settings(static_backends="http://a:1,http://b:1", static_models="m,n")
    services = Services(settings, FailingRouter, None)
    closed: list[str] = []

    close = services.upstream.close

    async def close_upstream() -> None:
        await close()
        closed.append("upstream")
        raise OSError("broken")

    services.upstream.close = close_upstream
    await services.open()
    with pytest.raises(RuntimeError, match="stuck"):
        await asyncio.wait_for(services.close(), 5)
    assert closed == ["upstream"]
    assert all(group.router.closed for group in services.fleet.groups.values())
