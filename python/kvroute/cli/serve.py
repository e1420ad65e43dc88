"""`kvroute serve`: the OpenAI-compatible router."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_Text = str | None
_Number = float | None
_Count = int | None


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(
        "serve",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(serve)


def _option(*names: str, text: str) -> Any:
    return typer.Option(*names, help=text, show_default=False)


def serve(
    context: typer.Context,
    config: Annotated[
        Path | None, _option("--config", text="YAML or JSON file of these settings.")
    ] = None,
    host: Annotated[_Text, _option("--host", text="Address to listen on [0.0.0.0].")] = None,
    port: Annotated[
        _Count, _option("--port", text="Port; 0 lets the system choose [8001].")
    ] = None,
    root_path: Annotated[
        _Text, _option("--root-path", text="Path under which a proxy shows this server.")
    ] = None,
    api_key: Annotated[
        _Text,
        _option(
            "--api-key",
            text="Bearer token asked for under /v1 (where the policy is changed) and /debug.",
        ),
    ] = None,
    log_level: Annotated[_Text, _option("--log-level", text="Log level [info].")] = None,
    service_discovery: Annotated[
        _Text, _option("--service-discovery", text="Only: static.")
    ] = None,
    static_backends: Annotated[
        _Text, _option("--static-backends", text="URLs of the engines, with commas.")
    ] = None,
    static_models: Annotated[
        _Text, _option("--static-models", text="What each engine serves, or one name for all.")
    ] = None,
    dp_ranks: Annotated[
        _Text, _option("--dp-ranks", text="Data-parallel ranks of each engine [1].")
    ] = None,
    kv_events: Annotated[
        _Text, _option("--kv-events", text="KV event endpoint of each engine's rank 0.")
    ] = None,
    kv_replay: Annotated[
        _Text, _option("--kv-replay", text="KV event replay endpoint of each engine's rank 0.")
    ] = None,
    load_events: Annotated[
        _Text, _option("--load-events", text="Load metrics endpoint of each engine's rank 0.")
    ] = None,
    total_blocks: Annotated[
        _Text, _option("--total-blocks", text="KV blocks of each engine's ranks.")
    ] = None,
    no_kv_events: Annotated[
        bool,
        _option("--no-kv-events", text="Assume what engines hold from our own decisions only."),
    ] = False,
    routing_logic: Annotated[
        _Text,
        _option(
            "--routing-logic",
            text="The policy, by its name [kv_cost], or disaggregated_prefill(_orchestrated).",
        ),
    ] = None,
    policy_config: Annotated[
        Path | None,
        _option("--policy-config", text="YAML or JSON file of a policy and its parameters."),
    ] = None,
    session_key: Annotated[
        _Text,
        _option("--session-key", text="Header, else field of the body, with the session's id."),
    ] = None,
    kv_aware_threshold: Annotated[
        _Number,
        _option("--kv-aware-threshold", text="Tokens that a hit may miss of the prompt [2000]."),
    ] = None,
    imbalanced_threshold: Annotated[
        _Number,
        _option("--imbalanced-threshold", text="Requests between the queues that balance [inf]."),
    ] = None,
    stats_missing: Annotated[
        _Text,
        _option("--stats-missing", text="A queue that is not known: skip, zero, round_robin."),
    ] = None,
    prefix_min_match_length: Annotated[
        _Count,
        _option("--prefix-min-match-length", text="Tokens that make a match of prefixaware [0]."),
    ] = None,
    loadaware_beta: Annotated[
        _Number,
        _option("--loadaware-beta", text="What load weighs against the cache in loadaware [1]."),
    ] = None,
    static_model_labels: Annotated[
        _Text, _option("--static-model-labels", text="A label for each engine, with commas.")
    ] = None,
    prefill_model_labels: Annotated[
        _Text, _option("--prefill-model-labels", text="Labels of engines that prefill.")
    ] = None,
    decode_model_labels: Annotated[
        _Text, _option("--decode-model-labels", text="Labels of engines that decode.")
    ] = None,
    whole_model_labels: Annotated[
        _Text,
        _option("--whole-model-labels", text="Labels of engines that serve whole requests alone."),
    ] = None,
    load_balancing_strategy: Annotated[
        _Text,
        _option(
            "--load-balancing-strategy",
            text="Of both: round_robin (default), random, qps, least_loaded, kv.",
        ),
    ] = None,
    prefill_load_balancing_strategy: Annotated[
        _Text, _option("--prefill-load-balancing-strategy", text="Of prefill engines instead.")
    ] = None,
    decode_load_balancing_strategy: Annotated[
        _Text, _option("--decode-load-balancing-strategy", text="Of decode engines instead.")
    ] = None,
    pair_choice: Annotated[
        _Text,
        _option(
            "--pair-choice",
            text="Both engines: independent (default), joint (by predicted time; needs kv).",
        ),
    ] = None,
    static_topology: Annotated[
        _Text,
        _option("--static-topology", text="joint: ZONE/HOST of each engine, with commas."),
    ] = None,
    transfer_seconds_per_token: Annotated[
        _Text,
        _option(
            "--transfer-seconds-per-token",
            text="joint: to the same host, the same zone, elsewhere [1.8e-7,1.6e-6,1.3e-5].",
        ),
    ] = None,
    routing_threshold: Annotated[
        _Count,
        _option("--routing-threshold", text="Prompt tokens from which on two engines serve [0]."),
    ] = None,
    token_estimate: Annotated[
        _Text,
        _option("--token-estimate", text="Of these: auto (tokens if known), chars (4 a token)."),
    ] = None,
    uncached_threshold: Annotated[
        _Count,
        _option(
            "--uncached-threshold", text="Tokens that the best decode engine must lack, too [none]."
        ),
    ] = None,
    disagg_connector_type: Annotated[
        _Text,
        _option(
            "--disagg-connector-type",
            text="nixl (default), lmcache, sglang, mooncake, p2p_nccl, shared_storage, or yours.",
        ),
    ] = None,
    disagg_options: Annotated[
        Path | None,
        _option("--disagg-options", text="YAML or JSON file of the connector's options."),
    ] = None,
    decoder_host: Annotated[
        _Text, _option("--decoder-host", text="lmcache: the only decode engine's receiver.")
    ] = None,
    decoder_init_port: Annotated[
        _Text, _option("--decoder-init-port", text="Its init port, or one a rank, with commas.")
    ] = None,
    decoder_alloc_port: Annotated[
        _Text, _option("--decoder-alloc-port", text="Its alloc port, likewise.")
    ] = None,
    decoder_registry: Annotated[
        _Text,
        _option("--decoder-registry", text="lmcache: all receivers, as JSON by URL, or @FILE."),
    ] = None,
    proxy_host: Annotated[
        _Text, _option("--proxy-host", text="lmcache: where engines send notices [localhost].")
    ] = None,
    proxy_port: Annotated[_Count, _option("--proxy-port", text="The port there [8500].")] = None,
    bootstrap_port: Annotated[
        _Count,
        _option("--bootstrap-port", text="sglang, mooncake: of prefill engines [8998]."),
    ] = None,
    prefill_timeout_seconds: Annotated[
        _Number, _option("--prefill-timeout-seconds", text="For a prefill engine's answer [300].")
    ] = None,
    transfer_timeout_seconds: Annotated[
        _Number, _option("--transfer-timeout-seconds", text="lmcache: for its notices [30].")
    ] = None,
    block_size: Annotated[
        _Count, _option("--block-size", text="Tokens in a block of the engines' caches [16].")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        _option("--tokenizer", text="Tokenizer directory; without it engines are asked."),
    ] = None,
    tokenize_threads: Annotated[
        _Count, _option("--tokenize-threads", text="Threads for large requests [2].")
    ] = None,
    tokenize_timeout_seconds: Annotated[
        _Number, _option("--tokenize-timeout-seconds", text="For an engine's /tokenize [2].")
    ] = None,
    prefill_tokens_per_second: Annotated[
        _Number,
        _option("--prefill-tokens-per-second", text="What policies predict prefills by [12000]."),
    ] = None,
    attention_seconds: Annotated[
        _Number,
        _option("--attention-seconds", text="And for each pair of a token and one before it."),
    ] = None,
    max_waiting: Annotated[
        _Count,
        _option("--max-waiting", text="An engine with more requests queued gets none [none]."),
    ] = None,
    max_kv_usage: Annotated[
        _Number,
        _option("--max-kv-usage", text="Nor one with a greater share of its cache used [none]."),
    ] = None,
    max_prefill_tokens: Annotated[
        _Count,
        _option("--max-prefill-tokens", text="Nor one with more tokens booked to compute [none]."),
    ] = None,
    queue_limit: Annotated[
        _Count,
        _option("--queue-limit", text="Requests that may wait while all are over a --max-* [0]."),
    ] = None,
    queue_order: Annotated[
        _Text,
        _option("--queue-order", text="Of those: fcfs (default), priority, shortest_uncached."),
    ] = None,
    queue_timeout: Annotated[
        _Number, _option("--queue-timeout", text="Seconds that a request may wait [30].")
    ] = None,
    reservation_ttl: Annotated[
        _Number,
        _option("--reservation-ttl", text="Silence that ends a request's booking [600]."),
    ] = None,
    decision_log: Annotated[
        _Count, _option("--decision-log", text="Decisions kept for /debug/decisions [0].")
    ] = None,
    request_stats_window: Annotated[
        _Number,
        _option("--request-stats-window", text="Seconds that request rates are counted over [60]."),
    ] = None,
    engine_stats_interval: Annotated[
        _Number,
        _option(
            "--engine-stats-interval",
            text="Seconds between readings of each engine's own load; 0: none [5].",
        ),
    ] = None,
    max_instance_failover_reroute_attempts: Annotated[
        _Count,
        _option(
            "--max-instance-failover-reroute-attempts",
            text="Other engines to try when one fails before its first byte [1].",
        ),
    ] = None,
    static_backend_health_checks: Annotated[
        bool, _option("--static-backend-health-checks", text="Ask engines for /health.")
    ] = False,
    static_backend_health_check_interval: Annotated[
        _Number,
        _option("--static-backend-health-check-interval", text="Seconds between checks [60]."),
    ] = None,
    static_backend_health_check_timeout_seconds: Annotated[
        _Number,
        _option("--static-backend-health-check-timeout-seconds", text="Of one check [10]."),
    ] = None,
    backend_cooldown_seconds: Annotated[
        _Number,
        _option("--backend-cooldown-seconds", text="Rest of an unreachable engine [5]."),
    ] = None,
    backend_connect_timeout_seconds: Annotated[
        _Number, _option("--backend-connect-timeout-seconds", text="To connect [5].")
    ] = None,
    backend_read_timeout_seconds: Annotated[
        _Number,
        _option("--backend-read-timeout-seconds", text="Longest silence of an engine [600]."),
    ] = None,
    max_backend_connections: Annotated[
        _Count, _option("--max-backend-connections", text="To all engines together [4096].")
    ] = None,
    max_backend_header_bytes: Annotated[
        _Count, _option("--max-backend-header-bytes", text="One header of an engine [65536].")
    ] = None,
    client_timeout_seconds: Annotated[
        _Number,
        _option("--client-timeout-seconds", text="For a client that sends or reads nothing [120]."),
    ] = None,
    max_concurrent_requests: Annotated[
        _Count, _option("--max-concurrent-requests", text="Above: 503 [4096].")
    ] = None,
    max_body_bytes: Annotated[
        _Count, _option("--max-body-bytes", text="Of a request; above: 413 [33554432].")
    ] = None,
    max_header_bytes: Annotated[
        _Count, _option("--max-header-bytes", text="Of a request, together; above: 431 [32768].")
    ] = None,
    graceful_shutdown_seconds: Annotated[
        _Number,
        _option("--graceful-shutdown-seconds", text="For running requests at the end [10]."),
    ] = None,
) -> None:
    """Route OpenAI completions and chats to the engine that has their prefix cached."""
    flags = {
        name: value
        for name, value in locals().items()
        if name not in ("context", "config", "service_discovery")
        and value is not None
        and value is not False
    }
    try:
        _refuse_foreign(context.args, service_discovery)
        status = _run(flags, config)
    except ValueError as error:
        typer.echo(f"kvroute serve: {_readable(error)}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(status)


def _run(flags: dict[str, Any], config: Path | None) -> int:
    from kvroute.frontend.server import serve as run
    from kvroute.frontend.settings import load_settings

    return run(load_settings(flags, config))


def _refuse_foreign(extra: list[str], service_discovery: str | None) -> None:
    from kvroute.frontend.foreign_flags import REFUSED_FLAGS

    extra = _without_replaced(extra)
    for argument in extra:
        name = argument.split("=", 1)[0]
        if name in REFUSED_FLAGS:
            raise ValueError(f"{name} is not supported: {REFUSED_FLAGS[name]}")
    if extra:
        raise ValueError(f"no such option: {extra[0]}")
    if service_discovery not in (None, "static"):
        raise ValueError(
            f"--service-discovery {service_discovery} is not supported: "
            f"{REFUSED_FLAGS['--k8s-port']}"
        )


def _without_replaced(extra: list[str]) -> list[str]:
    """Leaves out flags that we take and do not use, with their values, and says so once."""
    from kvroute.frontend.foreign_flags import REPLACED_FLAGS, replaced

    rest: list[str] = []
    found: list[str] = []
    arguments = iter(extra)
    for argument in arguments:
        name, sign, _ = argument.partition("=")
        if name not in REPLACED_FLAGS:
            rest.append(argument)
            continue
        found.append(name)
        if not sign and next(arguments, None) is None:
            raise ValueError(f"{name}: expected a value")
    if found:
        typer.echo(f"kvroute serve: {replaced(found)}", err=True)
    return rest


def _readable(error: ValueError) -> str:
    """One line for each thing that is wrong, in the flags' names."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    lines = []
    for item in error.errors():
        flag = "--" + str(item["loc"][0]).replace("_", "-") + ": " if item["loc"] else ""
        lines.append(flag + item["msg"].removeprefix("Value error, "))
    return "; ".join(lines)
