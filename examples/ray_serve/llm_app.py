"""llm_app.yaml in Python: `serve run llm_app:app`, or a part of your own application.

Needs `pip install 'ray[llm]' 'kvroute[ray]'` and GPUs. MODEL is the model's directory.
"""

from __future__ import annotations

import os
from typing import Any

BLOCK_SIZE = 16


def llm_config(model: str) -> dict[str, Any]:
    """What LLMConfig takes. The router tokenizes by itself: Ray's ingress hands the request on, and
    no token ids."""
    from kvroute.ray_serve import router_config

    return {
        "model_loading_config": {"model_id": "m", "model_source": model},
        "engine_kwargs": {"block_size": BLOCK_SIZE, "enable_prefix_caching": True},
        "deployment_config": {
            "num_replicas": 4,
            "max_ongoing_requests": 256,
            "request_router_config": router_config(block_size=BLOCK_SIZE, tokenizer=model),
        },
    }


def build(model: str) -> Any:
    """The Serve application."""
    from ray.serve.llm import LLMConfig, build_openai_app

    return build_openai_app({"llm_configs": [LLMConfig(**llm_config(model))]})


def __getattr__(name: str) -> Any:
    """`app`, made where it is asked for, so that this module can be imported without vLLM."""
    if name == "app":
        return build(os.environ["MODEL"])
    raise AttributeError(name)
