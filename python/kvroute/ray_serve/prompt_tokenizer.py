"""Token ids computed from the prompt or chat in a request's first argument."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvroute.ray_serve.errors import InvalidOptionsError, RouterUnavailableError

if TYPE_CHECKING:
    from kvroute.tokenization import Tokenizer

_THREADS = 2
_PACKAGES = ("tokenizers", "jinja2")
_PROMPT_FIELDS = ("prompt", "add_special_tokens")


def find_tokenizer(directory: str) -> None:
    """Whether there is one, from a look at the directory. Raises as `load_tokenizer` does."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise RouterUnavailableError(
            f"tokenizer: needs {' and '.join(missing)}: pip install 'kvroute[serve]'"
        )
    if not Path(directory, "tokenizer.json").is_file():
        raise _no_tokenizer(directory, "no such file")


@functools.lru_cache(maxsize=4)
def load_tokenizer(directory: str) -> Tokenizer:
    """The tokenizer of this directory, read once a process. Raises InvalidOptionsError for a
    directory that has none, RouterUnavailableError where the packages for it are missing."""
    find_tokenizer(directory)
    from kvroute.tokenization import TokenizationError, Tokenizer

    try:
        return Tokenizer.from_directory(directory)
    except TokenizationError as error:
        raise _no_tokenizer(directory, error) from error


def _no_tokenizer(directory: str, why: object) -> InvalidOptionsError:
    expected = "a directory with a model's tokenizer.json"
    return InvalidOptionsError("tokenizer", expected, f"{directory!r} ({why})")


class PromptTokenizer:
    """Loads a tokenizer and tokenizes in threads of its own, so that no event loop waits for it."""

    def __init__(self, directory: str) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="kvroute-ray-tokenize")
        self._loading = self._pool.submit(load_tokenizer, directory)

    async def token_ids(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Of the first argument, or of the keywords where there is none: a text; or a mapping or
        object with `messages`, or with `prompt`, a text or token ids (of several the first). None
        where there is no such thing. Raises what loading raised, TokenizationError, or whatever a
        template raises."""
        body = args[0] if args else kwargs
        prompt = body if isinstance(body, str) else _first_prompt(field(body, "prompt"))
        if field(body, "messages"):
            tokenize = functools.partial(self._of_chat, body)
        elif isinstance(prompt, str):
            tokenize = functools.partial(self._of_text, prompt, body)
        else:
            return prompt
        return await asyncio.get_running_loop().run_in_executor(self._pool, tokenize)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _of_chat(self, body: Any) -> list[int]:
        from kvroute.tokenization.request_body import CHAT_FIELDS, chat_token_ids

        return chat_token_ids(self._loading.result(), _plain_fields(body, CHAT_FIELDS))

    def _of_text(self, text: str, body: Any) -> list[int]:
        from kvroute.tokenization.request_body import text_token_ids

        return text_token_ids(self._loading.result(), text, _plain_fields(body, _PROMPT_FIELDS))


def field(body: Any, name: str) -> Any:
    """A mapping's value or an object's attribute; None where there is none."""
    if type(body) is dict or isinstance(body, Mapping):  # the first test is ten times as quick
        return body.get(name)
    return getattr(body, name, None)


def _first_prompt(prompt: Any) -> Any:
    """Of a batch of texts the first one; what else it is, token ids or a batch of those, is as it
    is."""
    if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[0], str):
        return prompt[0]
    return prompt


def _plain_fields(body: Any, names: Sequence[str]) -> dict[str, Any]:
    """These fields as they would come in JSON; without those that are absent or null."""
    given = {name: field(body, name) for name in names}
    return {name: _plain(value) for name, value in given.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "model_dump"):  # pydantic; a template takes null for said
        return value.model_dump(exclude_none=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    return _plain(vars(value)) if hasattr(value, "__dict__") else value
