"""The OpenAI-compatible router: `kvroute serve`, and the application for one's own server.

``create_app(settings)`` gives an ASGI application, ``serve(settings)`` runs it under uvicorn.
Needs ``pip install 'kvroute[serve]'``.
"""

from __future__ import annotations

from kvroute.frontend.app import FrontendApp, create_app
from kvroute.frontend.server import serve
from kvroute.frontend.settings import Settings

__all__ = ["FrontendApp", "Settings", "create_app", "serve"]
