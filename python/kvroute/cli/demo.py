"""`kvroute demo`: what KV-aware routing gains over round robin, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kvroute.demo import Demo, DemoPlan


def register(app: typer.Typer) -> None:
    """Adds the command `demo` to `app`."""
    app.command("demo")(demo)


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it running after the replay, until Ctrl-C.")
    ] = False,
    requests: Annotated[
        int, typer.Option(min=1, help="How many of the trace's requests to replay.")
    ] = 1000,
    engines: Annotated[int, typer.Option(min=1, max=64, help="Simulated engines.")] = 4,
    compression: Annotated[
        float, typer.Option(min=0.1, help="Trace time per wall time, of arrivals and engines.")
    ] = 10.0,
    length_scale: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="Fraction of the trace's tokens to keep.")
    ] = 0.5,
    num_blocks: Annotated[int, typer.Option(min=1, help="KV cache blocks of an engine.")] = 48_000,
    block_size: Annotated[int, typer.Option(min=1, help="Tokens a KV cache block.")] = 16,
    tokens_per_chunk: Annotated[
        int, typer.Option(min=1, help="Generated tokens that share a streamed chunk.")
    ] = 8,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A Mooncake-style JSONL trace. [default: the conversation trace in the folder "
            "$KVROUTE_TRACES or downloaded, else a generated one]",
        ),
    ] = None,
    policies: Annotated[
        str, typer.Option(help="Routing policies, with commas.")
    ] = "round_robin,kv_cost,kv_delay",
    deadline: Annotated[
        float, typer.Option(min=1.0, help="Seconds after which it gives up.")
    ] = 175.0,
    seed: Annotated[int, typer.Option(help="Of token ids and of a generated trace.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results there too.")
    ] = None,
) -> None:
    """Replay a trace through simulated engines, routed round robin and then by KV cache.

    Exits 1 if a request failed.
    """
    from kvroute.demo import DemoPlan

    try:
        plan = DemoPlan(
            keep=keep,
            requests=requests,
            engines=engines,
            compression=compression,
            length_scale=length_scale,
            num_blocks=num_blocks,
            block_size=block_size,
            tokens_per_chunk=tokens_per_chunk,
            trace=trace,
            policies=tuple(name.strip() for name in policies.split(",")),
            deadline=deadline,
            seed=seed,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(_run(plan, json_file))


def _run(plan: DemoPlan, json_file: Path | None) -> int:
    import faulthandler

    from rich.console import Console

    from kvroute.demo import Demo, DemoError
    from kvroute.demo.interruption import run_until_interrupted
    from kvroute.traces import TraceError

    console = Console()
    if not console.is_terminal:
        console.width = 110
    running = Demo(plan, console, on_results=lambda: _write(running, plan, json_file))
    if not plan.keep:  # for an event loop that hangs and so misses its own deadline
        faulthandler.dump_traceback_later(plan.deadline + 20.0, exit=True)
    try:
        interrupted_by = run_until_interrupted(running.run())
    except (DemoError, TraceError, OSError) as error:
        typer.echo(f"kvroute demo: {error}", err=True)
        return 1
    finally:
        faulthandler.cancel_dump_traceback_later()
    finished = len(running.summaries) == len(plan.policies)
    if interrupted_by is not None and not (plan.keep and finished):
        return 128 + interrupted_by
    return 1 if any(summary.failures for summary in running.summaries) else 0


def _write(demo: Demo, plan: DemoPlan, json_file: Path | None) -> None:
    if json_file is None:
        return
    import json

    from kvroute.demo.report import report_as_json

    assert demo.workload is not None
    report = report_as_json(plan, demo.workload, demo.summaries)
    json_file.write_text(json.dumps(report, indent=2) + "\n")
