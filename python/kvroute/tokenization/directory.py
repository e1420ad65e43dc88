"""A model's tokenizer directory: which files say what."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvroute.tokenization.errors import TokenizationError

_SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


@dataclass(frozen=True)
class TokenizerDirectory:
    """What the directory holds besides ``tokenizer.json``.

    `templates` maps a name ("default", "tool_use", …) to a chat template's source and is empty
    where the model has none. `special_tokens` maps names ("bos_token") to their text.
    """

    tokenizer_file: Path
    special_tokens: dict[str, str] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)


def read_directory(path: Path) -> TokenizerDirectory:
    """Reads a directory as Transformers does; files of templates win over the configuration's.

    Raises TokenizationError naming the file that is missing or wrong.
    """
    tokenizer_file = path / "tokenizer.json"
    if not path.is_dir():
        raise TokenizationError(f"{path}: expected a directory that holds tokenizer.json")
    if not tokenizer_file.is_file():
        raise TokenizationError(f"{tokenizer_file}: expected the tokenizer's file, found none")
    config = _read_json(path / "tokenizer_config.json")
    return TokenizerDirectory(
        tokenizer_file=tokenizer_file,
        special_tokens=_special_tokens(config, _read_json(path / "special_tokens_map.json")),
        templates=_template_files(path) or _configured_templates(path, config),
    )


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizationError(f"{file}: expected JSON: {error}") from error
    if not isinstance(value, dict):
        raise TokenizationError(f"{file}: expected an object, got {type(value).__name__}")
    return value


def _special_tokens(config: dict[str, Any], legacy_map: dict[str, Any]) -> dict[str, str]:
    extra = config.get("extra_special_tokens")
    declared = {**legacy_map, **config, **(extra if isinstance(extra, dict) else {})}
    names = [*_SPECIAL_TOKENS, *(extra if isinstance(extra, dict) else ())]
    tokens = {}
    for name in names:
        value = declared.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def _template_files(path: Path) -> dict[str, str]:
    templates = {}
    default = path / "chat_template.jinja"
    if default.is_file():
        templates["default"] = default.read_text(encoding="utf-8")
    for file in sorted((path / "additional_chat_templates").glob("*.jinja")):
        templates[file.stem] = file.read_text(encoding="utf-8")
    return templates


def _configured_templates(path: Path, config: dict[str, Any]) -> dict[str, str]:
    declared = config.get("chat_template")
    if declared is None:
        declared = _read_json(path / "chat_template.json").get("chat_template")
    if declared is None:
        return {}
    if isinstance(declared, str):
        return {"default": declared}
    try:
        return {str(entry["name"]): str(entry["template"]) for entry in declared}
    except (TypeError, KeyError) as error:
        raise TokenizationError(
            f"{path / 'tokenizer_config.json'}: chat_template: expected a string or a list of "
            "objects with name and template"
        ) from error
