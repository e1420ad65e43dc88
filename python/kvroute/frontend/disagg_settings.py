"""What `kvroute serve` can be told of prefill and decode workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from kvroute.disagg.connector import Connector
from kvroute.disagg.registry import (
    DEFAULT_CONNECTOR,
    connector_type,
    make_connector,
    option_names,
)
from kvroute.frontend.config_file import read_config_file
from kvroute.frontend.listed import OptionalList, listed
from kvroute.frontend.policy_choice import PolicySpec
from kvroute.frontend.protocols import Phase

Role = Literal["both", "prefill", "decode", "whole"]
ROLES: tuple[Role, ...] = ("both", "prefill", "decode", "whole")

SENT_LEGS = "disaggregated_prefill"
ORCHESTRATED = "disaggregated_prefill_orchestrated"
DISAGGREGATED_LOGICS = (SENT_LEGS, ORCHESTRATED)
"""production-stack's names. In the first, clients send the legs themselves: a request with
max_tokens 1 goes to a prefill worker, any other to a decode worker. In the second, the frontend
makes two legs of a request."""

# Settings that both have a use for; the others are for requests that the frontend splits.
_OF_BOTH_LOGICS = frozenset(
    {
        "static_model_labels",
        "prefill_model_labels",
        "decode_model_labels",
        "load_balancing_strategy",
        "prefill_load_balancing_strategy",
        "decode_load_balancing_strategy",
    }
)


def serves(role: Role, phase: Phase, *, decoder_serves_whole: bool = True) -> bool:
    """Whether a worker's role lets it: a whole request is served where nothing else is, and where
    answers are decoded, if decode workers can do so."""
    if role == "both":
        return True
    if phase == "whole":
        return role == "whole" or (role == "decode" and decoder_serves_whole)
    return role == phase


_STRATEGIES = ("round_robin", "roundrobin", "random", "qps", "least_loaded", "kv")
_LEAST_LOADED: PolicySpec = {"name": "least_loaded", "stats_missing": "round_robin"}
# What each strategy is as a policy. "kv": the prefill worker with the least time to the prompt's
# end, by what it holds and its backlog; the decode worker with the fewest blocks; for a whole
# request both count.
_POLICIES: Mapping[Phase, Mapping[str, PolicySpec]] = {
    "prefill": {"kv": "ttft", "least_loaded": _LEAST_LOADED},
    "decode": {
        "kv": {"name": "kv_cost", "track_prefill_tokens": False, "decode_role": True},
        "least_loaded": _LEAST_LOADED,
    },
    "whole": {"kv": "kv_cost", "least_loaded": _LEAST_LOADED},
}

# Settings that are options of some connector.
_OPTION_OF = {
    "decoder_host": "decoder_host",
    "decoder_init_port": "decoder_init_port",
    "decoder_alloc_port": "decoder_alloc_port",
    "decoder_registry": "decoder_registry",
    "proxy_host": "proxy_host",
    "proxy_port": "proxy_port",
    "transfer_timeout_seconds": "notice_timeout",
    "bootstrap_port": "bootstrap_port",
}


_Ports = Annotated[str | int | list[int] | None, NoDecode]


class DisaggSettings(BaseSettings):
    """The part of `Settings` that is about prefill and decode workers. Times in seconds."""

    static_model_labels: OptionalList = []
    prefill_model_labels: OptionalList = []
    decode_model_labels: OptionalList = []
    whole_model_labels: OptionalList = []
    load_balancing_strategy: str = "round_robin"
    prefill_load_balancing_strategy: str | None = None
    decode_load_balancing_strategy: str | None = None
    pair_choice: Literal["independent", "joint"] = "independent"
    static_topology: OptionalList = []
    transfer_seconds_per_token: Annotated[list[float], NoDecode] = []

    routing_threshold: int = 0
    token_estimate: Literal["auto", "chars"] = "auto"
    uncached_threshold: int | None = Field(default=None, ge=0)

    disagg_connector_type: str = DEFAULT_CONNECTOR
    disagg_options: Path | None = None
    prefill_timeout_seconds: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    transfer_timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    decoder_host: str | None = None
    decoder_init_port: _Ports = None
    decoder_alloc_port: _Ports = None
    decoder_registry: Annotated[str | dict[str, Any] | None, NoDecode] = None
    proxy_host: str | None = None
    proxy_port: int | None = Field(default=None, ge=0, le=65535)
    bootstrap_port: int | None = Field(default=None, ge=1, le=65535)

    @field_validator(
        "static_model_labels",
        "prefill_model_labels",
        "decode_model_labels",
        "whole_model_labels",
        "static_topology",
        "transfer_seconds_per_token",
        mode="before",
    )
    @classmethod
    def _split_of_legs(cls, value: Any) -> Any:
        return listed(value)

    @field_validator(
        "load_balancing_strategy",
        "prefill_load_balancing_strategy",
        "decode_load_balancing_strategy",
    )
    @classmethod
    def _known_strategy(cls, value: str | None) -> str | None:
        if value is not None and value not in _STRATEGIES:
            raise ValueError(f"expected one of {', '.join(_STRATEGIES)}, got {value!r}")
        return value

    @field_validator("transfer_seconds_per_token")
    @classmethod
    def _from_near_to_far(cls, value: list[float]) -> list[float]:
        if value and not (len(value) == 3 and 0 <= value[0] <= value[1] <= value[2] <= 1e6):
            raise ValueError(
                "expected the seconds of a token to the same host, to the same zone and elsewhere, "
                f"each at least the one before, got {value}"
            )
        return value

    @field_validator("routing_threshold")
    @classmethod
    def _not_negative(cls, value: int) -> int:
        return max(0, value)

    @model_validator(mode="after")
    def _every_label_has_a_role(self) -> DisaggSettings:
        known = self.known_labels
        unknown = sorted({label or "" for label in self.static_model_labels if label not in known})
        if known and unknown:
            raise ValueError(
                "static_model_labels: expected labels that prefill_model_labels, "
                "decode_model_labels or whole_model_labels names, got "
                f"{', '.join(map(repr, unknown))}"
            )
        twice = {*self.prefill_model_labels, *self.decode_model_labels} & {*self.whole_model_labels}
        if twice:
            raise ValueError(
                "whole_model_labels: expected labels that prefill_model_labels and "
                f"decode_model_labels do not name, got {', '.join(sorted(map(repr, twice)))}"
            )
        return self

    @property
    def known_labels(self) -> set[str | None]:
        """Those that say what a worker does."""
        return {*self.prefill_model_labels, *self.decode_model_labels, *self.whole_model_labels}

    def check_use(self, logic: str | None) -> None:
        """Raises ValueError naming a setting that a routing logic (None: a policy of its own) has
        no use for, or that is missing or wrong beside another."""
        for name, field in DisaggSettings.model_fields.items():
            users = DISAGGREGATED_LOGICS if name in _OF_BOTH_LOGICS else (ORCHESTRATED,)
            if logic not in users and getattr(self, name) != field.default:
                raise ValueError(
                    f"{name}: expected it with the routing_logic {' or '.join(users)}, "
                    f"got {logic or 'policy_config'}"
                )
        self._check_pair_choice()
        has_roles = bool(self.known_labels)
        if self.static_model_labels and not has_roles:
            raise ValueError(
                "static_model_labels: expected prefill_model_labels and decode_model_labels with "
                "it, which say what the labels mean"
            )
        if has_roles and not self.static_model_labels:
            kinds = ("prefill", "decode", "whole")
            name = next(kind for kind in kinds if getattr(self, f"{kind}_model_labels"))
            raise ValueError(
                f"{name}_model_labels: expected static_model_labels with it, a label for each "
                "backend"
            )

    def _check_pair_choice(self) -> None:
        if self.pair_choice == "independent":
            for name in ("static_topology", "transfer_seconds_per_token"):
                if getattr(self, name):
                    raise ValueError(f"{name}: expected pair_choice joint with it")
            return
        for own in (self.prefill_load_balancing_strategy, self.decode_load_balancing_strategy):
            if (own or self.load_balancing_strategy) != "kv":
                raise ValueError(
                    "pair_choice: joint chooses by what workers hold and do: expected the "
                    f"load_balancing_strategy kv for both phases with it, got "
                    f"{own or self.load_balancing_strategy}"
                )

    @property
    def chooses_pairs(self) -> bool:
        """Whether both workers of a request are chosen together."""
        return self.pair_choice == "joint"

    @property
    def pair_options(self) -> dict[str, float]:
        """For `KvRouter.set_pair_choice`."""
        ways = ("same_host", "same_zone", "elsewhere")
        return dict(zip(ways, self.transfer_seconds_per_token, strict=False))

    def connector(self) -> Connector:
        """The configured connector, not open yet. Raises ValueError naming the setting or option
        that is wrong."""
        return make_connector(self.disagg_connector_type, self._connector_options())

    def _connector_options(self) -> dict[str, Any]:
        """What the connector is made with: a file's options, and flags in place of them."""
        options = {} if self.disagg_options is None else read_config_file(self.disagg_options)
        kind = self.disagg_connector_type
        known = option_names(kind)
        for setting, option in _OPTION_OF.items():
            value = getattr(self, setting)
            if value is None:
                continue
            if option not in known:
                raise ValueError(f"{setting}: the connector {kind} has no use for it")
            options[option] = value
        return options

    @property
    def legs_need_tokens(self) -> bool:
        """Whether a request's path or its connector asks for the prompt's tokens."""
        return bool(self.uncached_threshold) or (
            connector_type(self.disagg_connector_type).needs_token_ids
        )

    def strategy(self, phase: Phase) -> PolicySpec:
        """The policy that chooses the workers of a phase. Whole requests go as decode legs; with an
        uncached threshold to who holds their prompt, since that may be why they are whole."""
        own = self.decode_load_balancing_strategy
        if phase == "prefill":
            own = self.prefill_load_balancing_strategy
        name = own or self.load_balancing_strategy
        if phase == "whole" and self.uncached_threshold:
            name = "kv"
        return _POLICIES[phase].get(name, name)

    def role(self, label: str | None) -> Role:
        """What a worker with this label does; everything where no labels are configured."""
        if not self.known_labels:
            return "both"
        if label in self.whole_model_labels:
            return "whole"
        prefill, decode = (
            label in labels for labels in (self.prefill_model_labels, self.decode_model_labels)
        )
        return "both" if prefill and decode else "prefill" if prefill else "decode"
