"""OpenAI chat messages to the messages that a chat template sees, by vLLM's rules.

Source of the rules: vLLM, ``vllm/entrypoints/chat_utils.py`` (``parse_chat_messages``) and
``vllm/renderers/hf.py`` (the detection of the content format).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from jinja2 import nodes

from kvroute.tokenization.errors import TokenizationError, UnsupportedContentError

ContentFormat = Literal["string", "openai"]

_TEXT_FIELD = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_MEDIA_MODALITY = {
    "image_url": "image",
    "input_image": "image",
    "image_embeds": "image",
    "image_pil": "image",
    "audio_url": "audio",
    "input_audio": "audio",
    "audio_embeds": "audio",
    "video_url": "video",
}


def conversation_for_template(
    messages: Sequence[Any], content_format: ContentFormat
) -> list[dict[str, Any]]:
    """The messages as a template of `content_format` gets them; the caller's are not changed.

    "openai": every content becomes a list of parts, ``{"type": "text", "text": …}`` or
    ``{"type": "image"}``. "string": the text parts joined by newlines. A tool's text-only content
    is a string in both. Arguments of tool calls given as JSON text become objects ({} if they do
    not parse), an empty ``tool_calls`` disappears.

    Raises TokenizationError for messages of another shape, UnsupportedContentError for media under
    "string", where the engine puts placeholders of its own.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise TokenizationError(f"messages: expected a list, got {type(messages).__name__}")
    if not messages:
        raise TokenizationError("messages: expected at least one message, got an empty list")
    return [
        _template_message(message, index, content_format) for index, message in enumerate(messages)
    ]


def tools_for_template(tools: Sequence[Any] | None) -> list[dict[str, Any]] | None:
    """Tool definitions in the field order in which vLLM's request model dumps them.

    The order matters: templates print tools with ``tojson``. Absent ``description`` and
    ``parameters`` are null, unknown fields follow in the caller's order.
    """
    if tools is None:
        return None
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise TokenizationError(f"tools: expected a list, got {type(tools).__name__}")
    shaped = []
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise TokenizationError(
                f"tools[{index}].function: expected an object with a string name, got {tool!r:.80}"
            )
        ordered = {"name": None, "description": None, "parameters": None, **function}
        shaped.append({"type": "function", **tool, "function": ordered})
    return shaped


def _template_message(message: Any, index: int, content_format: ContentFormat) -> dict[str, Any]:
    where = f"messages[{index}]"
    if not isinstance(message, Mapping):
        raise TokenizationError(f"{where}: expected an object, got {type(message).__name__}")
    role = message.get("role")
    if not isinstance(role, str):
        raise TokenizationError(f"{where}.role: expected a string, got {role!r:.80}")

    parts = list(_parts(message.get("content"), f"{where}.content", content_format))
    result: dict[str, Any] = {"role": role}
    if content_format == "openai" and not (role == "tool" and _only_text(parts)):
        result["content"] = parts
    else:
        result["content"] = "\n".join(part["text"] for part in parts)

    if role == "assistant":
        tool_calls = _tool_calls(message.get("tool_calls"), where)
        if tool_calls:
            result["tool_calls"] = tool_calls
        reasoning = message.get("reasoning")
        if reasoning is not None:
            result["reasoning"] = result["reasoning_content"] = reasoning
    elif role == "tool" and "tool_call_id" in message:
        result["tool_call_id"] = message["tool_call_id"]
    elif role == "developer":
        result["tools"] = message.get("tools")
    if isinstance(message.get("name"), str):
        result["name"] = message["name"]
    return result


def _parts(content: Any, where: str, content_format: ContentFormat) -> Iterator[dict[str, Any]]:
    if content is None:
        return
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    if not isinstance(content, Sequence):
        raise TokenizationError(
            f"{where}: expected a string, a list of parts or null, got {type(content).__name__}"
        )
    for index, part in enumerate(content):
        shaped = _part(part, f"{where}[{index}]")
        if shaped is None:
            continue
        if content_format == "string" and shaped["type"] != "text":
            raise UnsupportedContentError(
                f"{where}[{index}]: where the engine puts a part of type {shaped['type']!r} "
                "in a template with string content is the engine's own choice"
            )
        yield shaped


def _part(part: Any, where: str) -> dict[str, Any] | None:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        raise TokenizationError(
            f"{where}: expected a string or an object, got {type(part).__name__}"
        )
    kind = part.get("type")
    if kind is None:
        kind = next((name for name in _MEDIA_MODALITY if name in part), None)
    if not isinstance(kind, str):
        raise TokenizationError(f"{where}.type: expected a known part type, got {kind!r:.80}")
    if kind in _TEXT_FIELD:
        text = part.get(_TEXT_FIELD[kind])
        if text is None:
            return None
        if not isinstance(text, str):
            raise TokenizationError(
                f"{where}.{_TEXT_FIELD[kind]}: expected a string, got {type(text).__name__}"
            )
        return {"type": "text", "text": text}
    if kind in _MEDIA_MODALITY:
        return {"type": _MEDIA_MODALITY[kind]}
    raise TokenizationError(f"{where}.type: expected a known part type, got {kind!r:.80}")


def _only_text(parts: Sequence[Mapping[str, Any]]) -> bool:
    return all(part["type"] == "text" for part in parts)


def _tool_calls(tool_calls: Any, where: str) -> list[dict[str, Any]]:
    if tool_calls is None:
        return []
    if not isinstance(tool_calls, Sequence) or isinstance(tool_calls, str):
        raise TokenizationError(
            f"{where}.tool_calls: expected a list, got {type(tool_calls).__name__}"
        )
    shaped = []
    for index, call in enumerate(tool_calls):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise TokenizationError(
                f"{where}.tool_calls[{index}].function: expected an object, got {call!r:.80}"
            )
        try:
            arguments = _arguments(function.get("arguments"))
        except RecursionError as error:
            raise TokenizationError(
                f"{where}.tool_calls[{index}].function.arguments: nested too deeply"
            ) from error
        shaped.append({**call, "function": {**function, "arguments": arguments}})
    return shaped


def _arguments(arguments: Any) -> Any:
    if isinstance(arguments, str):
        try:
            return json.loads(arguments)
        except ValueError:
            return {}
    return arguments if isinstance(arguments, (dict, list)) else {}


def detect_content_format(template: nodes.Template) -> ContentFormat:
    """Whether a parsed template iterates over the content of a message ("openai") or not.

    vLLM's rule: "openai" if some loop runs over ``X.content`` (or ``X['content']``, filtered or
    sliced), X being the variable of a loop over ``messages`` or over a name assigned from it.
    """
    conversations = _names_assigned_from(template, "messages")
    message_names = {
        loop.target.name
        for loop in template.find_all(nodes.For)
        if isinstance(loop.target, nodes.Name) and _name_of(loop.iter) in conversations
    }
    for loop in template.find_all(nodes.For):
        owner = _owner_of_content(loop.iter)
        if owner in message_names and owner is not None:
            return "openai"
    return "string"


def _names_assigned_from(template: nodes.Template, name: str) -> set[str]:
    found = {name}
    assignments = [
        (assign.target.name, _name_of(assign.node))
        for assign in template.find_all(nodes.Assign)
        if isinstance(assign.target, nodes.Name)
    ]
    grew = True
    while grew:
        grew = False
        for target, source in assignments:
            if source in found and target not in found:
                found.add(target)
                grew = True
    return found


def _without_filters(node: nodes.Node | None) -> nodes.Node | None:
    while isinstance(node, (nodes.Filter, nodes.Test)) or (
        isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
    ):
        node = node.node
    return node


def _name_of(node: nodes.Node | None) -> str | None:
    inner = _without_filters(node)
    return inner.name if isinstance(inner, nodes.Name) and inner.ctx == "load" else None


def _owner_of_content(node: nodes.Node | None) -> str | None:
    inner = _without_filters(node)
    if isinstance(inner, nodes.Getattr):
        is_content = inner.attr == "content"
    elif isinstance(inner, nodes.Getitem):
        is_content = isinstance(inner.arg, nodes.Const) and inner.arg.value == "content"
    else:
        return None
    owner = inner.node
    return owner.name if is_content and isinstance(owner, nodes.Name) else None
