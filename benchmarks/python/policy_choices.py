"""Policies as a command line names them."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import kvroute

if TYPE_CHECKING:
    from kvroute._core import Policy

THRESHOLDS = (2.0, 5.0, 10.0, math.inf)


@dataclass(frozen=True)
class Choice:
    """A policy and its name in a table."""

    label: str
    policy: Policy

    @property
    def name(self) -> str:
        return self.policy if isinstance(self.policy, str) else str(self.policy["name"])


def parse(text: str) -> Choice:
    """A name, or JSON with a name and parameters; `Infinity` is a number there. For argparse."""
    policy: Policy = text
    label = text
    try:
        if text.lstrip().startswith("{"):
            policy = json.loads(text)
            label = _label(policy)
        kvroute.policy_needs_tokens(policy)
    except (ValueError, KeyError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    return Choice(label, policy)


def balanced(threshold: float) -> Choice:
    """`load_balanced_kvaware` with a threshold."""
    name = "load_balanced_kvaware"
    return Choice(f"{name} {threshold:g}", {"name": name, "imbalanced_threshold": threshold})


def compared() -> list[Choice]:
    """What is replayed where nothing else is asked for."""
    names = ("round_robin", "kvaware", "kv_cost", "kv_delay")
    first, second, *others = (parse(name) for name in names)
    return [first, second, *(balanced(threshold) for threshold in THRESHOLDS), *others]


def every() -> list[Choice]:
    """Every policy by its name alone, but the balanced one at each threshold."""
    choices: list[Choice] = []
    for name in kvroute.policy_names():
        if name == "load_balanced_kvaware":
            choices += [balanced(threshold) for threshold in THRESHOLDS]
        else:
            choices.append(parse(name))
    return choices


def _label(policy: Policy) -> str:
    if isinstance(policy, str):
        return policy
    parameters = (f"{key}={value}" for key, value in policy.items() if key != "name")
    return " ".join([str(policy["name"]), *parameters])
