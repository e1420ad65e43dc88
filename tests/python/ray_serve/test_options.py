"""RouterOptions: what is accepted, what is refused by name, what it is made of again."""

from __future__ import annotations

import ast
import dataclasses
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from kvroute.ray_serve import InvalidOptionsError, RouterOptions, RouterUnavailableError
from kvroute.ray_serve.options import _CHECKS


async def async_function_for_tests(pending: Any) -> Any:
    return pending.kwargs["ids"]


GIVEN: dict[str, Any] = {
    "block_size": 32,
    "policy": {"name": "kv_cost", "temperature": 0.2},
    "token_ids_keyword": "ids",
    "token_ids_argument": "body.prompt",
    "token_ids_function": "json:dumps",
    "on_missing_tokens": "error",
    "forward_token_ids": False,
    "dp_rank_keyword": "rank",
    "memory_limit": 1 << 20,
    "predicted_ttl": 60,
    "reservation_ttl": 30.5,
    "seed": 7,
    "exchange": False,
    "exchange_interval_s": 0.01,
    "exchange_host": "127.0.0.1",
    "metrics": False,
    "metrics_interval_s": 1.0,
}


def test_nothing_given_is_all_defaults() -> None:
    options = RouterOptions.parse({})
    assert options == RouterOptions()
    assert options.kwargs() == {}


def test_what_was_given_comes_back_as_json_that_parses_to_the_same() -> None:
    options = RouterOptions.parse(GIVEN)
    again = json.loads(json.dumps(options.kwargs()))
    assert again == GIVEN
    assert RouterOptions.parse(again) == options
    assert pickle.loads(pickle.dumps(options)) == options


def test_the_key_is_the_same_for_the_same_options_alone() -> None:
    in_order = RouterOptions.parse(GIVEN)
    reversed_order = RouterOptions.parse(dict(reversed(GIVEN.items())))
    assert in_order.key() == reversed_order.key()
    assert RouterOptions.parse({"predicted_ttl": 120}).key() == RouterOptions().key()
    assert in_order.key() != RouterOptions().key()


def test_every_option_is_checked() -> None:
    assert {field.name for field in dataclasses.fields(RouterOptions)} == _CHECKS.keys()


def test_all_defaults_pass_their_own_check() -> None:
    assert RouterOptions.parse(dataclasses.asdict(RouterOptions())) == RouterOptions()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("block_size", 0),
        ("block_size", "16"),
        ("block_size", True),
        ("policy", "best"),
        ("policy", {"name": "kv_cost", "temper": 1}),
        ("policy", ["kv_cost"]),
        ("token_ids_keyword", "not a name"),
        ("token_ids_argument", "body..prompt"),
        ("token_ids_argument", 0),
        ("token_ids_function", "json.dumps"),
        ("token_ids_function", "no_such_module_here:f"),
        ("token_ids_function", "json:no_such_function"),
        ("tokenizer", "/nowhere/at/all"),
        ("on_missing_tokens", "random"),
        ("forward_token_ids", 1),
        ("dp_rank_keyword", ""),
        ("memory_limit", "1 gigabyte"),
        ("memory_limit", 1.5),
        ("predicted_ttl", 0),
        ("reservation_ttl", float("nan")),
        ("seed", -1),
        ("exchange_interval_s", "5ms"),
        ("exchange_host", 1),
        ("metrics_interval_s", False),
    ],
)
def test_a_bad_value_is_refused_by_its_option(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptionsError) as refused:
        RouterOptions.parse({name: value})
    assert refused.value.field == name
    assert f"{name}: expected {refused.value.expected}, got " in str(refused.value)


def test_an_unknown_option_is_told_the_nearest_one() -> None:
    with pytest.raises(InvalidOptionsError, match="blocksize: expected .* nearest is block_size"):
        RouterOptions.parse({"blocksize": 16})
    with pytest.raises(InvalidOptionsError, match="xyz: expected one of block_size, policy,"):
        RouterOptions.parse({"xyz": 16})


def test_an_async_function_is_refused_since_nobody_would_wait_for_it() -> None:
    module = async_function_for_tests.__module__
    with pytest.raises(InvalidOptionsError, match="token_ids_function: .* not async"):
        RouterOptions.parse({"token_ids_function": f"{module}:async_function_for_tests"})


def test_a_directory_that_holds_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionsError, match="tokenizer: .*tokenizer.json"):
        RouterOptions.parse({"tokenizer": str(tmp_path)})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tokenizers" else found(name)
    )
    with pytest.raises(RouterUnavailableError, match="tokenizers.*pip install"):
        RouterOptions.parse({"tokenizer": "/models/any"})


def test_errors_survive_the_way_between_processes() -> None:
    error = InvalidOptionsError("seed", "a number", "'x'")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "seed: expected a number, got 'x'"
    assert again.field == "seed"


def test_the_documentation_has_every_option_with_its_default() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "ray-serve-options.md"
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", page.read_text(), re.MULTILINE)
    said = {name: ast.literal_eval(default) for name, default in rows}
    assert said == dataclasses.asdict(RouterOptions())
