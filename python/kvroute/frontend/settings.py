"""The frontend's configuration."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from kvroute.disagg.legs import Worker
from kvroute.disagg.registry import connector_type
from kvroute.frontend.config_file import read_config_file
from kvroute.frontend.disagg_settings import (
    DISAGGREGATED_LOGICS,
    ORCHESTRATED,
    DisaggSettings,
    Role,
    serves,
)
from kvroute.frontend.foreign_flags import REPLACED_SETTINGS, replaced
from kvroute.frontend.listed import OptionalList, listed
from kvroute.frontend.policy_choice import (
    FLAGS,
    PolicySpec,
    balances_by_statistics,
    name_of,
    policy_of,
    warn_of_unused,
)
from kvroute.frontend.protocols import Phase
from kvroute.frontend.role_checks import check_roles, warn_of_missing_roles

# Seconds for which a router takes an engine's report for true, unless it is told otherwise.
_REPORT_LIFETIME = 60.0

# production-stack's own variables, each for a setting.
_FOREIGN_VARIABLES = {"LOADAWARE_BETA": "loadaware_beta"}

logger = logging.getLogger("kvroute.frontend")


class BackendSettings(BaseModel):
    """One engine: its URL, what it serves, and where it tells of its cache and load."""

    model_config = ConfigDict(frozen=True)

    url: str
    model: str
    dp_ranks: int = 1
    kv_events: str | None = None
    kv_replay: str | None = None
    load_events: str | None = None
    total_blocks: int | None = None
    role: Role = "both"
    labels: dict[str, str] = {}
    decoder_serves_whole: bool = True
    """Whether the engine can serve whole requests when its role is "decode"."""


class Settings(DisaggSettings, BaseSettings):
    """Everything that `kvroute serve` can be told: by flags, by `--config`, by KVROUTE_… variables.

    Lists are given as lists or as one text with commas; the n-th element is the n-th backend's,
    and an empty element means none for that backend. Times are in seconds, sizes in bytes.
    """

    model_config = SettingsConfigDict(env_prefix="KVROUTE_", extra="forbid")

    host: str = "0.0.0.0"
    port: int = Field(default=8001, ge=0, le=65535)
    root_path: str = ""
    api_key: str | None = None
    log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] = "info"

    static_backends: OptionalList = Field(min_length=1)
    static_models: OptionalList = Field(min_length=1)
    dp_ranks: OptionalList = []
    kv_events: OptionalList = []
    kv_replay: OptionalList = []
    load_events: OptionalList = []
    total_blocks: OptionalList = []
    no_kv_events: bool = False

    routing_logic: str = "kv_cost"
    policy_config: Path | None = None
    session_key: str | None = Field(default=None, min_length=1)
    kv_aware_threshold: float | None = Field(default=None, ge=0)
    imbalanced_threshold: float | None = Field(default=None, ge=0)
    stats_missing: Literal["skip", "zero", "round_robin"] | None = None
    prefix_min_match_length: int | None = Field(default=None, ge=0)
    loadaware_beta: float | None = Field(default=None, ge=0, le=1e6)
    block_size: int = Field(default=16, ge=1, le=65536)
    tokenizer: Path | None = None
    tokenize_threads: int = Field(default=2, ge=1, le=64)
    tokenize_timeout_seconds: float = Field(default=2.0, gt=0)

    prefill_tokens_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    attention_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max_waiting: int | None = Field(default=None, ge=0)
    max_kv_usage: float | None = Field(default=None, ge=0, le=1)
    max_prefill_tokens: int | None = Field(default=None, ge=0)
    queue_limit: int = Field(default=0, ge=0, le=1 << 20)
    queue_order: Literal["fcfs", "priority", "shortest_uncached"] = "fcfs"
    queue_timeout: float = Field(default=30.0, gt=0, allow_inf_nan=False)

    reservation_ttl: float | None = Field(default=None, gt=0, le=1e9)
    decision_log: int = Field(default=0, ge=0, le=10_000)
    request_stats_window: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    engine_stats_interval: float = Field(default=5.0, ge=0, allow_inf_nan=False)

    max_instance_failover_reroute_attempts: int = Field(default=1, ge=0, le=100)
    static_backend_health_checks: bool = False
    static_backend_health_check_interval: float = Field(default=60.0, gt=0)
    static_backend_health_check_timeout_seconds: float = Field(default=10.0, gt=0)
    backend_cooldown_seconds: float = Field(default=5.0, ge=0)
    backend_connect_timeout_seconds: float = Field(default=5.0, gt=0)
    backend_read_timeout_seconds: float = Field(default=600.0, gt=0)
    max_backend_connections: int = Field(default=4096, ge=1)
    max_backend_header_bytes: int = Field(default=65536, ge=1024)

    client_timeout_seconds: float = Field(default=120.0, gt=0)
    max_concurrent_requests: int = Field(default=4096, ge=1)
    max_body_bytes: int = Field(default=32 << 20, ge=1)
    max_header_bytes: int = Field(default=32 << 10, ge=256)
    graceful_shutdown_seconds: float = Field(default=10.0, ge=0)

    _policy: PolicySpec = PrivateAttr()
    _phase_policies: dict[Phase, PolicySpec] = PrivateAttr(default_factory=dict)

    @field_validator(
        "static_backends",
        "static_models",
        "dp_ranks",
        "kv_events",
        "kv_replay",
        "load_events",
        "total_blocks",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("root_path")
    @classmethod
    def _normal_root(cls, value: str) -> str:
        inner = value.strip("/")
        return f"/{inner}" if inner else ""

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        count = len(self.static_backends)
        for index, url in enumerate(self.static_backends):
            parts = urlsplit(url or "")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(
                    f"static_backends[{index}]: expected http://HOST:PORT, got {url!r}"
                )
        if len(set(self._urls())) != count:
            raise ValueError("static_backends: expected each URL once")
        if None in self.static_models:
            raise ValueError("static_models: expected a model for each backend, got an empty name")
        if len(self.static_models) not in (1, count):
            raise ValueError(
                f"static_models: expected one model, or one for each of {count} backends, "
                f"got {len(self.static_models)}"
            )
        for name in (
            "dp_ranks",
            "kv_events",
            "kv_replay",
            "load_events",
            "total_blocks",
            "static_model_labels",
            "static_topology",
        ):
            values = getattr(self, name)
            if values and len(values) != count and set(values) != {None}:
                raise ValueError(f"{name}: expected {count} elements, got {len(values)}")
        for name in ("kv_events", "kv_replay", "load_events"):
            for endpoint in getattr(self, name):
                if endpoint is not None and "://" not in endpoint:
                    raise ValueError(f"{name}: expected tcp://HOST:PORT, got {endpoint!r}")
        models = sorted(set(filter(None, self.static_models)))
        if self.tokenizer is not None and len(models) > 1:
            raise ValueError(
                "tokenizer: one directory serves one model, got the models "
                f"{', '.join(models)}; without it engines are asked for tokens"
            )
        for name in ("dp_ranks", "total_blocks"):
            for number in getattr(self, name):
                if number is not None and not (number.isdecimal() and int(number) >= 1):
                    raise ValueError(f"{name}: expected numbers of at least 1, got {number!r}")
        return self

    @model_validator(mode="after")
    def _queue_has_a_threshold(self) -> Settings:
        thresholds = (self.max_waiting, self.max_kv_usage, self.max_prefill_tokens)
        if any(threshold is not None for threshold in thresholds):
            return self
        for name in ("queue_limit", "queue_order"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name}: expected it with max_waiting, max_kv_usage or max_prefill_tokens; "
                    "without a threshold no request ever waits"
                )
        return self

    @model_validator(mode="after")
    def _is_a_policy(self) -> Settings:
        if self.policy_config is not None and "routing_logic" in self.model_fields_set:
            raise ValueError(
                "policy_config: expected it without routing_logic; it names the policy"
            )
        self._phase_policies = {}
        name = self.routing_logic
        flags = {flag: getattr(self, flag) for flag in FLAGS}
        if self.is_disaggregated:
            warn_of_unused(flags)
            self._policy = self.strategy("whole")
            self._phase_policies["prefill"] = self.strategy("prefill")
            self._phase_policies["decode"] = self.strategy("decode")
            return self
        self._policy = policy_of(name, self.policy_config, flags)
        return self

    @model_validator(mode="after")
    def _disaggregation_fits(self) -> Settings:
        self.check_use(None if self.policy_config is not None else self.routing_logic)
        if not self.splits_requests:
            return self
        backends = self.backends()
        check_roles(backends, connector_type(self.disagg_connector_type))
        self.connector().workers_are(
            [Worker(backend.url) for backend in backends if serves(backend.role, "prefill")],
            [Worker(backend.url) for backend in backends if serves(backend.role, "decode")],
        )
        return self

    @model_validator(mode="after")
    def _say_what_roles_are_missing(self) -> Settings:
        if self.is_disaggregated:
            has_threshold = bool(self.routing_threshold or self.uncached_threshold)
            warn_of_missing_roles(
                self.backends(), self.disagg_connector_type, has_threshold=has_threshold
            )
        return self

    @model_validator(mode="after")
    def _policy_has_what_it_decides_by(self) -> Settings:
        if name_of(self._policy) == "session" and self.session_key is None:
            raise ValueError(
                "session_key: expected the header or field with a session's id, since the policy "
                "is session"
            )
        has_statistics = self.engine_stats_interval > 0 or any(self.load_events)
        if balances_by_statistics(self._policy) and not has_statistics:
            logger.warning(
                "load_balanced_kvaware will never balance: no engine's load is known, with "
                "--engine-stats-interval 0 and without --load-events"
            )
        phases = map(name_of, self._phase_policies.values())
        if "least_loaded" in phases and not has_statistics:
            logger.warning(
                "least_loaded goes by turns: no engine's load is known, with "
                "--engine-stats-interval 0 and without --load-events"
            )
        return self

    @property
    def policy(self) -> PolicySpec:
        """What the routers begin with: a name, or a mapping of name and parameters."""
        return self._policy

    @property
    def phase_policies(self) -> dict[Phase, PolicySpec]:
        """What chooses prefill and decode workers instead; empty where nobody has roles."""
        return dict(self._phase_policies)

    @property
    def is_disaggregated(self) -> bool:
        """Whether workers have roles."""
        return self.policy_config is None and self.routing_logic in DISAGGREGATED_LOGICS

    @property
    def splits_requests(self) -> bool:
        """Whether the frontend itself makes two legs of a request."""
        return self.is_disaggregated and self.routing_logic == ORCHESTRATED

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are needed whatever the policies do: for a threshold, the queue, or two
        legs. The estimate of a prompt's length asks for them where the tokenizer is our own."""
        return (
            self.max_prefill_tokens is not None
            or (self.queue_limit > 0 and self.queue_order == "shortest_uncached")
            or (self.splits_requests and (self.legs_need_tokens or self._estimates_exactly))
        )

    @property
    def _estimates_exactly(self) -> bool:
        return (
            self.token_estimate == "auto"
            and self.routing_threshold > 0
            and self.tokenizer is not None
        )

    def router_options(self) -> dict[str, Any]:
        """What the routers are made with beside block size and policy."""
        options: dict[str, float | None] = {
            "max_waiting": self.max_waiting,
            "max_kv_usage": self.max_kv_usage,
            "max_prefill_tokens": self.max_prefill_tokens,
            "prefill_tokens_per_second": self.prefill_tokens_per_second,
            "attention_seconds": self.attention_seconds,
            "load_window": self.request_stats_window,
            "reservation_ttl": self.reservation_ttl,
            "decision_log": self.decision_log or None,
        }
        if 3 * self.engine_stats_interval > _REPORT_LIFETIME:  # two may fail
            options["report_lifetime"] = 3 * self.engine_stats_interval
        return {name: value for name, value in options.items() if value is not None}

    def _urls(self) -> list[str]:
        return [(url or "").rstrip("/") for url in self.static_backends]

    def backends(self) -> list[BackendSettings]:
        """The engines, one for each element of `static_backends`."""
        urls = self._urls()
        models = (
            self.static_models if len(self.static_models) > 1 else self.static_models * len(urls)
        )

        decoders_serve_whole = (
            not self.splits_requests or connector_type(self.disagg_connector_type).serves_whole
        )

        def element(values: list[str | None], index: int) -> str | None:
            return values[index] if index < len(values) else None

        def number(values: list[str | None], index: int) -> int | None:
            text = element(values, index)
            return None if text is None else int(text)

        return [
            BackendSettings(
                url=url,
                model=models[index] or "",
                dp_ranks=number(self.dp_ranks, index) or 1,
                kv_events=None if self.no_kv_events else element(self.kv_events, index),
                kv_replay=None if self.no_kv_events else element(self.kv_replay, index),
                load_events=element(self.load_events, index),
                total_blocks=number(self.total_blocks, index),
                role=self.role(element(self.static_model_labels, index)),
                labels=_place(element(self.static_topology, index)),
                decoder_serves_whole=decoders_serve_whole,
            )
            for index, url in enumerate(urls)
        ]


def _place(text: str | None) -> dict[str, str]:
    """A router's labels of ZONE/HOST, of which either may be left out: ZONE or /HOST."""
    zone, _, host = (text or "").partition("/")
    return {name: value for name, value in (("zone", zone), ("host", host)) if value}


def load_settings(given: dict[str, Any], config: Path | None = None) -> Settings:
    """Settings from what was `given` (flags), then KVROUTE_… variables, then those that have
    production-stack's names (LOADAWARE_BETA), then a file.

    Raises ValueError (pydantic's ValidationError is one) naming the setting or the file.
    """
    from_file = read_config_file(config) if config is not None else {}
    ignored = sorted(from_file.keys() & REPLACED_SETTINGS)
    if ignored:
        logger.warning("%s: %s", config, replaced(ignored))
        from_file = {key: value for key, value in from_file.items() if key not in ignored}
    from_environment = {
        name.upper().removeprefix("KVROUTE_").lower()
        for name in os.environ
        if name.upper().startswith("KVROUTE_")
    }
    for variable, name in _FOREIGN_VARIABLES.items():
        if text := os.environ.get(variable):
            from_file[name] = text
    remaining = {key: value for key, value in from_file.items() if key not in from_environment}
    return Settings(**{**remaining, **given})
