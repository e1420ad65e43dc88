"""A tiny byte-level BPE tokenizer and chat templates of several families."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog. user assistant system tool function",
    '{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}',
    "Straße, naïve café, 東京 タワー, привет мир, emoji 🙂🙃, tabs\tand\nnew lines\r\n",
    "In the morning the model answers the question; in the evening it asks one.",
]
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|tools|>", "<|image|>", "<pad>"]

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

WITH_TOOLS = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system = 'You help.' %}
    {%- set rest = messages %}
{%- endif %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}
    {% for tool in tools %}
{{- '\\n' + (tool | tojson) }}
    {% endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in rest %}
    {%- if message.tool_calls %}
        {%- for call in message.tool_calls %}
{{- '<|tools|>' + call.function.name + ' ' + (call.function.arguments | tojson(indent=2)) }}
        {%- endfor %}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 > 999 %}{% break %}{% endif %}
{{- '<|im_start|>tool\\n' + message.content + '<|im_end|>' }}
    {%- elif message.role == 'assistant' %}
        {%- generation %}
{{- message.content | trim + eos_token }}
        {%- endgeneration %}
    {%- elif message.role == 'user' or message.role == 'system' %}
{{- '<|im_start|>' + message.role + ' ' + (message.name or '') + '\\n' }}
{{- message.content + '<|im_end|>' }}
    {%- else %}
{{- raise_exception('unknown role ' + message.role) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

WITH_PARTS = """\
{{- bos_token -}}
{%- set conversation = messages -%}
{%- for turn in conversation -%}
{{ '<|im_start|>' ~ turn['role'] ~ '\\n' }}
{%- if turn['content'] is string -%}
{{ turn['content'] }}
{%- else -%}
{%- for piece in turn['content'] -%}
{%- if piece['type'] == 'image' -%}{{ '<|image|>' }}
{%- elif piece['type'] == 'text' -%}{{ '[' ~ loop.index ~ ']' ~ piece['text'] }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>' }}
{% endfor %}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif %}
"""

TOOL_USE = "{{ bos_token }}TOOLS {{ tools | tojson }}{% for m in messages %}|{{ m.role }}:" + (
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}|assistant:{% endif %}"
)

REASONING = """\
{% for m in messages %}
{% if m.reasoning_content is defined %}
<think>{{ m.reasoning_content }}</think>
{% endif %}
{% set calm = enable_thinking is defined and not enable_thinking %}
{{ m.role }}{% if calm %} (calm){% endif %}: {{ m.content }}
{% endfor %}
{% if add_generation_prompt %}assistant:{% endif %}
"""

SINGLE_TEMPLATES = {
    "chatml": CHATML,
    "tools": WITH_TOOLS,
    "parts": WITH_PARTS,
    "reasoning": REASONING,
}

MakeDirectory = Callable[..., Path]


@pytest.fixture(scope="session")
def trained_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def make_directory(
    trained_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> MakeDirectory:
    """Writes a tokenizer directory: `template` in its configuration, `jinja` as a file."""

    def make(template: Any = None, jinja: str | None = None, **config: Any) -> Path:
        path = tmp_path_factory.mktemp("tokenizer")
        trained_tokenizer.save(str(path / "tokenizer.json"))
        settings: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": {"content": "</s>", "special": True, "__type": "AddedToken"},
            "pad_token": "<pad>",
            **config,
        }
        if template is not None:
            settings["chat_template"] = template
        (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        if jinja is not None:
            (path / "chat_template.jinja").write_text(jinja, encoding="utf-8")
        return path

    return make


@pytest.fixture(scope="session")
def template_directories(make_directory: MakeDirectory) -> dict[str, Path]:
    """One directory for each template family, by name."""
    directories = {name: make_directory(text) for name, text in SINGLE_TEMPLATES.items()}
    directories["named"] = make_directory(
        [
            {"name": "default", "template": CHATML},
            {"name": "tool_use", "template": TOOL_USE},
        ]
    )
    directories["file"] = make_directory("overridden by the file", jinja=WITH_TOOLS)
    return directories
