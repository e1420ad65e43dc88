"""Who may change how a running frontend decides."""

from __future__ import annotations

from ipaddress import ip_address

from fastapi import Request

from kvroute.frontend.errors import forbidden

_SAID_BY_PROXIES = ("forwarded", "x-forwarded-for", "x-real-ip")


def require_permission(request: Request, api_key: str | None) -> None:
    """With a key the guard has asked for it already; without one only clients of this machine may,
    and no proxy's, since nobody knows where those are. Raises ApiError 403."""
    if not api_key and not _is_local(request):
        raise forbidden(
            "without --api-key this is changed over loopback alone (127.0.0.1, ::1), and through "
            "no proxy; start kvroute serve with a key to change it from elsewhere"
        )


def _is_local(request: Request) -> bool:
    """Whether the client's address is a loopback one. Not known (a Unix socket): no."""
    if any(name in request.headers for name in _SAID_BY_PROXIES):
        return False
    try:
        address = ip_address(request.client.host if request.client is not None else "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
