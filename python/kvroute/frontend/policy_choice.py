"""Which policy routes: its name, its parameters from flags, or a file that says all of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from kvroute.frontend.config_file import read_config_file

logger = logging.getLogger("kvroute.frontend")

PolicySpec: TypeAlias = "str | Mapping[str, Any]"
"""A policy as ``kvroute.KvRouter(policy=)`` takes it: a name, or a mapping with "name"."""

# production-stack's flags: which parameter of which policies each is.
_PARAMETERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "kv_aware_threshold": ("kv_aware_threshold", ("kvaware", "load_balanced_kvaware")),
    "imbalanced_threshold": ("imbalanced_threshold", ("load_balanced_kvaware",)),
    "stats_missing": ("stats_missing", ("load_balanced_kvaware", "least_loaded")),
    "prefix_min_match_length": ("prefix_min_match_length", ("prefixaware",)),
    "loadaware_beta": ("beta", ("loadaware",)),
}
FLAGS = tuple(_PARAMETERS)

# Policies that may count the prompt tokens booked on each engine, whether or not they look at what
# is held of the prompt. They are named here since the core tells only of the latter: one of these
# needs the tokens of every request, else each text is booked as a single token.
_COUNT_BOOKED_TOKENS = frozenset({"least_load", "power_of_two", "gate"})


def policy_of(name: str, file: Path | None, flags: Mapping[str, Any]) -> PolicySpec:
    """The policy in `file`, else the one of this name with those of the `flags` (of FLAGS; None:
    not given) that it has. Others change nothing, as in production-stack; the log says so.

    Raises ValueError for what is no policy, naming the file or the parameter.
    """
    spec: dict[str, Any] = {"name": name} if file is None else read_config_file(file)
    unused = dict(flags)
    for flag, value in flags.items():
        parameter, policies = _PARAMETERS[flag]
        if value is not None and file is None and name in policies:
            spec[parameter] = unused.pop(flag)
    warn_of_unused(unused)
    try:
        needs_tokens(spec)
    except ValueError as error:
        if file is not None:
            raise ValueError(f"{file}: {error}") from error
        # "policy: ..." is about the name, "policy.stats_missing: ..." about a flag of that name.
        text = str(error).removeprefix("policy.")
        raise ValueError(text.replace("policy:", "routing_logic:", 1)) from error
    return spec if len(spec) > 1 else name if file is None else spec


def warn_of_unused(flags: Mapping[str, Any]) -> None:
    """Says in the log which of these flags (of FLAGS; None: not given) change nothing."""
    for flag, value in flags.items():
        if value is not None:
            logger.warning(
                "--%s changes nothing here: it is for the policies %s",
                flag.replace("_", "-"),
                ", ".join(_PARAMETERS[flag][1]),
            )


def needs_tokens(policy: PolicySpec) -> bool:
    """Whether the policy, or one within it, looks at the prompt or counts the tokens that are
    booked. Raises ValueError for what is no policy."""
    from kvroute import policy_needs_tokens

    return policy_needs_tokens(policy) or any(
        name in _COUNT_BOOKED_TOKENS for name in _names_in(policy)
    )


def name_of(policy: PolicySpec) -> str:
    return policy if isinstance(policy, str) else str(policy.get("name"))


def balances_by_statistics(policy: PolicySpec) -> bool:
    """Whether it is `load_balanced_kvaware` with a first tier that engines' statistics open."""
    return (
        isinstance(policy, Mapping)
        and name_of(policy) == "load_balanced_kvaware"
        and math.isfinite(float(policy.get("imbalanced_threshold", math.inf)))
        and policy.get("stats_missing", "skip") == "skip"
    )


def as_json(policy: Any) -> Any:
    """The policy with each infinite number as the text "inf", which policies take for it: JSON has
    no infinity."""
    if isinstance(policy, float) and math.isinf(policy):
        return "inf"
    if isinstance(policy, Mapping):
        return {name: as_json(value) for name, value in policy.items()}
    if isinstance(policy, (list, tuple)):
        return [as_json(value) for value in policy]
    return policy


def _names_in(policy: Any) -> Iterator[str]:
    """The name of a policy and of each within it, which may be a name alone; other texts too."""
    if isinstance(policy, str):
        yield policy
    elif isinstance(policy, Mapping):
        for value in policy.values():
            yield from _names_in(value)
