"""Who prefills and who decodes, while requests run."""

from __future__ import annotations

import logging

from kvroute.disagg.connector import Connector
from kvroute.disagg.legs import Worker
from kvroute.frontend.disagg_settings import Role
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.role_checks import check_role

logger = logging.getLogger("kvroute.frontend")


class Roles:
    """The roles of every model's workers, and the connector that is told of them."""

    def __init__(self, fleet: Fleet, connector: Connector | None) -> None:
        self._fleet = fleet
        self._connector = connector

    def tell_connector(self) -> None:
        """Raises ValueError where its configuration does not know one of the workers."""
        if self._connector is None:
            return
        workers = list(self._fleet.backends())
        self._connector.workers_are(
            [Worker(worker.url) for worker in workers if worker.serves("prefill")],
            [Worker(worker.url) for worker in workers if worker.serves("decode")],
        )

    def change(self, url: str, role: Role) -> None:
        """From the next request on; legs that run go on, and index and load stay. KeyError for an
        unknown worker; ValueError, and nothing has changed, where its engine cannot have the role
        or the connector refuses it."""
        check_role(role, None if self._connector is None else type(self._connector))
        group = self._fleet.group_of(url)
        before = group.backends[url].role
        group.set_role(url, role)
        try:
            self.tell_connector()
        except ValueError:
            group.set_role(url, before)
            self.tell_connector()
            raise
        logger.warning("%s: the role is now %s, it was %s", url, role, before)
