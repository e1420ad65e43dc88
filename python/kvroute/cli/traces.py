"""`kvroute traces`: get and inspect request traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the group `traces` to `app`."""
    traces = typer.Typer(no_args_is_help=True, help="Get and inspect request traces.")
    traces.command("download")(download)
    traces.command("info")(info)
    app.add_typer(traces, name="traces")


def download(
    dest: Annotated[
        Path | None,
        typer.Option(
            "--dest",
            metavar="FOLDER",
            help="Where to put it. [default: the user's cache folder, where kvroute looks for it]",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Another place of the same file. [default: its public source]"),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for the network each time.")
    ] = 30.0,
) -> None:
    """Download the Mooncake conversation trace (3 MB, Apache-2.0) and check its SHA-256."""
    from kvroute.cli.progress import download_progress
    from kvroute.traces import DownloadError, cache_folder, has_sha256
    from kvroute.traces import download as fetch
    from kvroute.traces.locate import CONVERSATION_TRACE
    from kvroute.traces.public_source import CONVERSATION_TRACE_SHA256, CONVERSATION_TRACE_URL

    target = (dest if dest is not None else cache_folder()) / CONVERSATION_TRACE
    if has_sha256(target, CONVERSATION_TRACE_SHA256):
        typer.echo(f"{target} is already there, with the right SHA-256.")
        return
    source = url if url is not None else CONVERSATION_TRACE_URL
    try:
        with download_progress(target.name) as progress:
            fetch(
                source,
                target,
                sha256=CONVERSATION_TRACE_SHA256,
                timeout=timeout,
                progress=progress,
            )
    except DownloadError as error:
        typer.echo(f"kvroute traces download: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{target}: downloaded, SHA-256 as expected.")


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JSONL trace.")],
) -> None:
    """Print a trace's statistics."""
    from kvroute.traces import TraceError, describe, read_trace

    try:
        facts = describe(read_trace(file))
    except TraceError as error:
        typer.echo(f"kvroute traces info: {error}", err=True)
        raise typer.Exit(1) from None
    rows = {
        "requests": f"{facts.requests:,} over {facts.duration / 60:.1f} minutes",
        "bursts": f"{facts.bursts:,}, every {facts.burst_interval:.2f} s (median)",
        "input tokens": f"mean {facts.mean_input:,.0f}, median {facts.median_input:,.0f}, "
        f"max {facts.max_input:,}",
        "output tokens": f"mean {facts.mean_output:,.0f}, max {facts.max_output:,}",
        "blocks of 512": f"mean {facts.mean_blocks:.1f} a request, max {facts.max_blocks:,}",
        "unique blocks": f"{facts.unique_blocks:,} in {facts.block_references:,} references",
        "one infinite cache": f"hits {facts.infinite_cache_hit_rate:.2%} of all blocks",
        "shared first block": f"by {facts.shared_first_block:.1%} of the requests",
    }
    for name, value in rows.items():
        typer.echo(f"{name:<20}{value}")
