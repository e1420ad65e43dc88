from __future__ import annotations

import inspect
from dataclasses import fields

from kvroute.cli.demo import demo
from kvroute.cli.main import app
from kvroute.demo import DemoPlan
from typer.testing import CliRunner


def test_the_options_defaults_are_the_plans() -> None:
    plan = DemoPlan()
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(demo).parameters.items()
    }
    assert defaults.pop("json_file") is None
    assert tuple(defaults.pop("policies").split(",")) == plan.policies
    assert set(defaults) <= {field.name for field in fields(DemoPlan)}
    assert defaults == {name: getattr(plan, name) for name in defaults}


def test_a_plan_that_cannot_run_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["demo", "--policies", "kv_cost,kv_cost"])
    assert result.exit_code == 2
    assert "expected different names" in result.output
