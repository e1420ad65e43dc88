"""The `kvroute` command."""

from __future__ import annotations

import sys
from typing import NoReturn

SERVE_EXTRA = frozenset(
    {
        "aiohttp",
        "click",
        "fastapi",
        "httptools",
        "jinja2",
        "msgpack",
        "orjson",
        "prometheus_client",
        "pydantic",
        "pydantic_settings",
        "rich",
        "starlette",
        "tokenizers",
        "typer",
        "uvicorn",
        "uvloop",
        "yaml",
        "zmq",
    }
)
"""Top-level modules that come with `kvroute[serve]`."""


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """The package of `kvroute[serve]` whose absence caused `error`; None for any other cause."""
    package = (error.name or "").partition(".")[0]
    return package if package in SERVE_EXTRA else None


def main() -> None:
    """Runs the command line; where a package of the extra is missing, says so (exit 2)."""
    try:
        from kvroute.cli.main import app

        app(prog_name="kvroute")
    except ModuleNotFoundError as error:
        package = missing_extra(error)
        if package is None:
            raise
        _exit_for(package)


def _exit_for(package: str) -> NoReturn:
    print(
        f"kvroute: this command needs the package {package!r}, which is not installed; "
        "install it with: pip install 'kvroute[serve]'",
        file=sys.stderr,
    )
    raise SystemExit(2) from None
