"""Prompt text and chat messages to token ids, as the engines do it.

A router matches prompts by their tokens, so it must get the very tokens that the engine computes.
:class:`Tokenizer` reads a model's tokenizer directory (``tokenizer.json`` and its chat template)
and follows two authorities:

- Hugging Face Transformers (5.x ``apply_chat_template``) for templates and special tokens;
- vLLM (``vllm/entrypoints/chat_utils.py``) for turning OpenAI messages into what a template sees.

Needs the packages ``tokenizers`` and ``jinja2`` (``pip install 'kvroute[serve]'``), nothing else.
"""

from __future__ import annotations

from kvroute.tokenization.errors import TokenizationError, UnsupportedContentError
from kvroute.tokenization.template import ChatTemplate
from kvroute.tokenization.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "TokenizationError", "Tokenizer", "UnsupportedContentError"]
