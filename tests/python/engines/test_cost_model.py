"""The stated formula."""

from __future__ import annotations

import pytest
from kvroute.engines.cost_model import CostModel
from kvroute.engines.errors import InvalidConfigError


def test_a_step_costs_the_sum_of_its_terms() -> None:
    cost = CostModel(
        base_step=1.0,
        prefill_tokens_per_second=100.0,
        per_attention_pair=0.001,
        per_sequence=0.1,
        per_context_token=0.01,
    )
    assert cost.step_seconds(200, 3000.0, 4, 50) == pytest.approx(1 + 2 + 3 + 0.4 + 0.5)


def test_speed_divides_everything() -> None:
    slow, fast = CostModel(), CostModel(speed=20)
    arguments = (1000, 500_000.0, 8, 9000)
    assert fast.step_seconds(*arguments) == pytest.approx(slow.step_seconds(*arguments) / 20)


def test_the_defaults_prefill_a_12k_prompt_in_about_a_second() -> None:
    tokens = 12_000
    assert 1.0 < CostModel().step_seconds(tokens, tokens * tokens / 2, 0, 0) < 1.2


@pytest.mark.parametrize(
    "setting", [{"speed": 0}, {"base_step": -1}, {"prefill_tokens_per_second": float("nan")}]
)
def test_settings_out_of_range_are_refused_by_name(setting: dict[str, float]) -> None:
    with pytest.raises(InvalidConfigError, match=next(iter(setting))):
        CostModel(**setting)
