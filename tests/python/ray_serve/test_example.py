"""examples/ray_serve, as far as it goes without a cluster and without vLLM."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from kvroute.ray_serve import RouterOptions
from tokenizers import Tokenizer, models

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "ray_serve"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's directory, as far as its tokenizer goes."""
    Tokenizer(models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def in_yaml(model: Path) -> dict[str, Any]:
    """The one LLM's configuration, of this model."""
    text = (EXAMPLE / "llm_app.yaml").read_text(encoding="utf-8").replace("/models/m", str(model))
    (application,) = yaml.safe_load(text)["applications"]
    assert application["import_path"] == "ray.serve.llm:build_openai_app"
    (config,) = application["args"]["llm_configs"]
    assert isinstance(config, dict)
    return config


def test_the_router_of_the_llm_configuration_has_valid_options(model: Path) -> None:
    router = in_yaml(model)["deployment_config"]["request_router_config"]
    assert router["request_router_class"] == "kvroute.ray_serve:KvRouteRequestRouter"
    RouterOptions.parse(router["request_router_kwargs"])


def test_the_llm_configuration_is_the_same_in_yaml_and_in_python(model: Path) -> None:
    pytest.importorskip("ray.serve")
    spec = importlib.util.spec_from_file_location("llm_app", EXAMPLE / "llm_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written, made = in_yaml(model), module.llm_config(str(model))
    stated = written["deployment_config"].pop("request_router_config")
    config = made["deployment_config"].pop("request_router_config")
    assert made == written
    assert config.request_router_class == stated["request_router_class"]
    assert config.request_router_kwargs == stated["request_router_kwargs"]
