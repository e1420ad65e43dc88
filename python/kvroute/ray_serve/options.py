"""What a user says of routing in `request_router_kwargs`, checked.

Ray takes JSON-able keywords only, so everything here is one.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from kvroute import InvalidArgument, KvRouter
from kvroute.ray_serve.errors import InvalidOptionsError
from kvroute.ray_serve.prompt_tokenizer import find_tokenizer, load_tokenizer
from kvroute.ray_serve.user_function import import_function


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier()


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_path(value: Any) -> bool:
    return _is_text(value) and all(value.split("."))


def _is_function(value: Any) -> bool:
    module, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    return _is_path(module) and _is_path(name)


def _is_seconds(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and 0 < value <= 1e9


def _none_or(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or accepts(value)


# What a value of each option must be, in words and as a check. The core checks what is its own.
_SECONDS = ("seconds, 0 < x <= 1e9", _is_seconds)
_SWITCH = ("True or False", _is_bool)
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "block_size": ("an integer, 1 to 65536, or None", _none_or(_is_int)),
    "policy": (
        "a policy's name, or its name and parameters",
        lambda value: isinstance(value, (str, dict)),
    ),
    "token_ids_keyword": ("a keyword", _is_name),
    "token_ids_argument": ('a path such as "0.prompt_token_ids", or None', _none_or(_is_path)),
    "token_ids_function": ('"package.module:function", or None', _none_or(_is_function)),
    "tokenizer": ("a directory, or None", _none_or(_is_text)),
    "on_missing_tokens": ('"balance" or "error"', lambda value: value in ("balance", "error")),
    "forward_token_ids": _SWITCH,
    "dp_rank_keyword": ("a keyword, or None", _none_or(_is_name)),
    "memory_limit": (
        "None, a number of bytes, or a text such as '512MiB'",
        _none_or(lambda value: _is_int(value) or _is_text(value)),
    ),
    "predicted_ttl": _SECONDS,
    "reservation_ttl": _SECONDS,
    "seed": ("None or an integer, 0 <= n < 2**64", _none_or(_is_int)),
    "exchange": _SWITCH,
    "exchange_interval_s": _SECONDS,
    "exchange_host": ("an address of this node, or None", _none_or(_is_text)),
    "metrics": _SWITCH,
    "metrics_interval_s": _SECONDS,
}


@dataclasses.dataclass(frozen=True)
class RouterOptions:
    """The options of one deployment's router. `parse` makes a checked one.

    How token ids are found, tried in this order:

    token_ids_keyword: the handle call's keyword that has them.
    token_ids_argument: a path into the call's arguments: "0.prompt_token_ids", "body.prompt". Its
        first part is a position or a keyword, each further one an attribute, a mapping's key or a
        position in a list.
    token_ids_function: "package.module:function", given Ray's PendingRequest, gives token ids or
        None. It runs on the event loop that routes: it must not block.
    tokenizer: a directory with tokenizer.json, there on every node that routes. Prompt or chat
        messages in the call's first argument are tokenized in threads of their own.
    on_missing_tokens: "balance": a request without token ids goes to the replica with the least
        load; "error": it gets a MissingTokenIdsError.
    forward_token_ids: False takes the keyword out before the replica is called.
    dp_rank_keyword: the chosen data-parallel rank reaches the replica under this keyword.

    What is chosen by (see kvroute.KvRouter):

    block_size: tokens per block; None takes it from the first replica that states one, else 16.
    policy, memory_limit, predicted_ttl, reservation_ttl, seed: as KvRouter has them.

    Several routers of one deployment:

    exchange: whether they tell one another of their bookings; every exchange_interval_s seconds,
        listening at exchange_host (None: the node's address).
    metrics: whether figures are given to Ray's dashboard, every metrics_interval_s seconds.
    """

    block_size: int | None = None
    policy: str | dict[str, Any] = "kv_cost"
    token_ids_keyword: str = "request_token_ids"
    token_ids_argument: str | None = None
    token_ids_function: str | None = None
    tokenizer: str | None = None
    on_missing_tokens: Literal["balance", "error"] = "balance"
    forward_token_ids: bool = True
    dp_rank_keyword: str | None = None
    memory_limit: int | str | None = "1GiB"
    predicted_ttl: float = 120.0
    reservation_ttl: float = 600.0
    seed: int | None = None
    exchange: bool = True
    exchange_interval_s: float = 0.005
    exchange_host: str | None = None
    metrics: bool = True
    metrics_interval_s: float = 5.0

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> RouterOptions:
        """The options with all that is given, tried out as far as that is quick: a router is made,
        the function imported, the tokenizer looked for (`load_tokenizer` loads it). Raises
        InvalidOptionsError naming the option, and RouterUnavailableError where a package is
        missing that the options need."""
        checked = {name: _checked(name, value) for name, value in given.items()}
        options = cls(**checked)
        options._try()
        return options

    def kwargs(self) -> dict[str, Any]:
        """What differs from the defaults: `request_router_kwargs` that parse to the same."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    def key(self) -> str:
        """The same text for the same options, in every process."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def load_tokenizer(self) -> None:
        """Takes seconds where there is one: not for an event loop. Raises as `parse` does."""
        if self.tokenizer is not None:
            load_tokenizer(self.tokenizer)

    def _try(self) -> None:
        """What only use can tell: the policy's parameters, the function, extras."""
        try:
            KvRouter(
                16 if self.block_size is None else self.block_size,
                self.policy,
                self.memory_limit,
                self.seed,
                predicted_ttl=self.predicted_ttl,
                reservation_ttl=self.reservation_ttl,
            )
        except InvalidArgument as error:
            raise _as_option_error(error) from error
        if self.token_ids_function is not None:
            import_function(self.token_ids_function)
        if self.tokenizer is not None:
            find_tokenizer(self.tokenizer)


def _checked(name: Any, value: Any) -> Any:
    if name not in _CHECKS:
        raise InvalidOptionsError(str(name), _known_names(name), "an unknown option")
    expected, accepts = _CHECKS[name]
    if not accepts(value):
        raise InvalidOptionsError(name, expected, f"{value!r:.80}")
    return float(value) if expected == _SECONDS[0] else value


def _known_names(name: Any) -> str:
    close = difflib.get_close_matches(str(name), _CHECKS, n=1)
    if close:
        return f"an option of kvroute's router; the nearest is {close[0]}"
    return f"one of {', '.join(_CHECKS)}"


def _as_option_error(error: Exception) -> InvalidOptionsError:
    """The core says "field: expected ..., got ..."."""
    field, _, rest = str(error).partition(": expected ")
    expected, _, got = rest.rpartition(", got ")
    return InvalidOptionsError(field, expected or "another value", got or rest or str(error))
