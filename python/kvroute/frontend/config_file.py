"""YAML and JSON files of settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_config_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; its keys may be written with dashes.

    Raises ValueError naming the file if it is missing or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    content = _parse_config(path, text)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping, got {type(content).__name__}")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def _parse_config(path: Path, text: str) -> Any:
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON: {error}") from error
    try:
        import yaml
    except ModuleNotFoundError:
        raise ValueError(f"{path}: YAML needs the package PyYAML; or name it .json") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML: {error}") from error
