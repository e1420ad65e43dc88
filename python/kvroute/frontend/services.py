"""What the running frontend consists of; made at startup, closed at shutdown."""

from __future__ import annotations

import asyncio
import functools
import logging
from contextlib import AsyncExitStack

from kvroute.deadline import within
from kvroute.disagg.connector import Connector
from kvroute.frontend.backend import Backend
from kvroute.frontend.client_transfers import WithoutClientTransfers
from kvroute.frontend.completions import Completions
from kvroute.frontend.connector_metrics import ConnectorCollector
from kvroute.frontend.disaggregated import Disaggregated
from kvroute.frontend.engine_stats import EngineStats
from kvroute.frontend.engine_tokens import EngineTokens
from kvroute.frontend.explanations import Explanations
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.intake import Intake, Parse, Serve
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.prompts import parse_chat, parse_completion, parse_either
from kvroute.frontend.protocols import RouterFactory
from kvroute.frontend.roles import Roles
from kvroute.frontend.sent_legs import SentLegs
from kvroute.frontend.settings import Settings
from kvroute.frontend.token_source import TokenSource
from kvroute.frontend.upstream import (
    AiohttpUpstream,
    Upstream,
    UpstreamBusyError,
    UpstreamError,
    get,
)
from kvroute.frontend.waiting import Admission
from kvroute.tokenization import Tokenizer

logger = logging.getLogger("kvroute.frontend")

_FETCH_TIMEOUT = 10.0


class Services:
    """The fleet and its routers, the shared upstream client, the tokenizer, what asks engines now
    and then.

    `posts` has the raw POST paths: how each reads its body, and who answers it through `intake`.
    """

    def __init__(
        self, settings: Settings, make_router: RouterFactory, tokenizer: Tokenizer | None
    ) -> None:
        """Needs a running event loop."""
        self.settings = settings
        self.fleet = Fleet(settings, make_router)
        self.upstream: Upstream = AiohttpUpstream(
            connect_timeout=settings.backend_connect_timeout_seconds,
            read_timeout=settings.backend_read_timeout_seconds,
            max_connections=settings.max_backend_connections,
            max_header_bytes=settings.max_backend_header_bytes,
        )
        engines = EngineTokens(
            self.upstream,
            timeout=settings.tokenize_timeout_seconds,
            cooldown=settings.backend_cooldown_seconds,
        )
        self.tokens = TokenSource(self.fleet, engines, tokenizer, threads=settings.tokenize_threads)
        self.intake = Intake(settings, self.fleet)
        self.admission = Admission(settings, self.fleet)
        completions = Completions(settings, self.fleet, self.tokens, self.admission, self.upstream)
        self._connector: Connector | None = None
        serve = completions.serve
        if settings.splits_requests:
            self._connector = settings.connector()
            self.fleet.metrics.registry.register(ConnectorCollector(self._connector))
            in_legs = Disaggregated(
                settings,
                self.fleet,
                self.tokens,
                self.admission,
                self.upstream,
                completions,
                self._connector,
            )
            serve = WithoutClientTransfers(in_legs.serve).serve
        elif settings.is_disaggregated:
            serve = SentLegs(completions).serve
        self.roles = Roles(self.fleet, self._connector)
        self.posts: dict[str, tuple[Parse, Serve]] = {
            path: (parse, functools.partial(serve, path))
            for path, parse in (
                ("/v1/completions", parse_completion),
                ("/v1/chat/completions", parse_chat),
            )
        }
        self.posts["/v1/kvroute/explain"] = (
            parse_either,
            Explanations(
                self.tokens,
                list(settings.phase_policies),
                chooses_pairs=settings.chooses_pairs,
            ).serve,
        )
        self._tasks = [asyncio.create_task(self.intake.expire_clients())]
        if settings.engine_stats_interval > 0:
            stats = EngineStats(
                self.fleet,
                self.upstream,
                settings.engine_stats_interval,
                reported=lambda group: group.made_room(),
            )
            self._tasks += stats.start()
        if settings.static_backend_health_checks:
            self._tasks += [
                asyncio.create_task(self._check(group, backend))
                for group in self.fleet.groups.values()
                for backend in group.backends.values()
            ]

    async def open(self) -> None:
        """Opens what a connector between engines needs. Raises OSError, ValueError."""
        if self._connector is not None:
            self.roles.tell_connector()
            await self._connector.open(self._fetch)

    async def _fetch(self, url: str) -> bytes:
        """The body of a GET's answer with status 200; OSError for any other."""
        try:
            return await within(_FETCH_TIMEOUT, get(self.upstream, url))
        except (UpstreamError, ValueError, asyncio.TimeoutError) as error:
            raise OSError(str(error) or f"{url}: no answer in time") from error

    async def close(self) -> None:
        """Closes all of it. What fails keeps nothing else from being closed, and comes out last."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with AsyncExitStack() as last_first:
            last_first.callback(self.fleet.close)
            last_first.push_async_callback(self.upstream.close)
            last_first.callback(self.tokens.close)
            last_first.callback(self.admission.close)
            if self._connector is not None:
                last_first.push_async_callback(self._connector.close)

    async def _check(self, group: ModelGroup, backend: Backend) -> None:
        """Asks for /health again and again; the backend takes requests while it answers 200."""
        while True:
            try:
                healthy = await within(
                    self.settings.static_backend_health_check_timeout_seconds,
                    self._is_healthy(backend),
                )
            except UpstreamBusyError:
                healthy = backend.healthy  # our own limit says nothing of the engine
            except Exception as error:  # whatever it is, the checks must go on
                logger.debug("%s/health: %s", backend.url, error or type(error).__name__)
                healthy = False
            if healthy != backend.healthy:
                logger.warning("%s is %s", backend.url, "healthy" if healthy else "unhealthy")
                group.set_healthy(backend, healthy)
            await asyncio.sleep(self.settings.static_backend_health_check_interval)

    async def _is_healthy(self, backend: Backend) -> bool:
        response = await self.upstream.request("GET", f"{backend.url}/health", [], None)
        response.close()
        return response.status == 200
