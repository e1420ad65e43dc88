"""The command line's table of contents: each command is a module, imported when it is named.

A command module has a function `register(app)` that adds its command, under the module's name, to
a Typer application.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any, NoReturn

import typer
import typer.main
from typer.core import TyperGroup

COMMANDS = ("serve", "mock", "demo", "traces")


class CommandTable(TyperGroup):
    """Finds commands by importing `kvroute.cli.<name>`.

    A module that cannot be imported costs nobody else anything: the help lists its command with
    the reason, and using the command raises the import's own error.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """The names of all commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """The command of that name, or None."""
        return _load(cmd_name) if cmd_name in COMMANDS else None


app = typer.Typer(
    cls=CommandTable,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Routes LLM requests to the engine that already holds their prefix in its KV cache.",
)


def _print_version(requested: bool) -> None:
    if requested:
        from kvroute import __version__

        typer.echo(f"kvroute {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options before the command."""


def _load(name: str) -> Any:
    holder = typer.Typer(add_completion=False)
    try:
        importlib.import_module(f"kvroute.cli.{name}").register(holder)
    except ImportError as error:
        _register_unavailable(holder, name, error)
    command = typer.main.get_group(holder).commands[name]
    _show_brackets(command)
    return command


def _show_brackets(command: Any) -> None:
    """Lets the help print a text such as "[info]", which rich takes for markup and leaves out."""
    if command.rich_markup_mode == "rich":
        from rich.markup import escape

        for parameter in command.params:
            if getattr(parameter, "help", None):
                parameter.help = escape(parameter.help)
    for inner in getattr(command, "commands", {}).values():
        _show_brackets(inner)


def _register_unavailable(holder: typer.Typer, name: str, error: ImportError) -> None:
    @holder.command(
        name,
        help=f"Not available: {error}.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        add_help_option=False,
    )
    def unavailable() -> NoReturn:
        raise error
