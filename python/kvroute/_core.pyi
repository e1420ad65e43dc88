"""The typed face of kvroute's native extension.

All classes are thread-safe unless they say otherwise. Token ids are the prompt after chat template
and tokenizer, each 0 <= id < 2**32. They are taken from a buffer of 32-bit unsigned integers
without copying (`array('I')`, NumPy uint32, a memoryview of format "I"), from other integer
buffers and NumPy integer arrays with one checked copy, and from a list or tuple of ints (about
2 ns a token; a buffer costs nothing). The GIL is released from the end of that conversion to the
result's. A buffer must not change during the call.

A worker's name is an int (64-bit) or a str; 0 and "0" are two workers. A target is a pair
(worker, dp_rank).

Errors: InvalidArgument (a ValueError) names the field, what was expected and what came;
UnknownWorker (a KeyError) names the worker; NoEligibleWorker (a RuntimeError) says why nobody can
be chosen, Overloaded (a NoEligibleWorker) that everybody has too much to do.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, final

from typing_extensions import Buffer

from kvroute.python_policy import PythonPolicy

TokenIds: TypeAlias = Sequence[int] | Buffer
"""list[int], tuple[int, ...], array.array, NumPy integer array, or any buffer of integers."""

Hashes: TypeAlias = Sequence[int] | Buffer
"""Unsigned 64-bit hashes: a list or tuple of ints, array('Q'), NumPy uint64, a buffer of u64."""

WorkerName: TypeAlias = int | str

WorkerRef: TypeAlias = WorkerName | tuple[WorkerName, int]
"""A worker with all its ranks, or one of them: (worker, dp_rank)."""

Tier: TypeAlias = Literal["device", "host", "disk", "external"]
"""Where a worker keeps a block, nearest first; "external" is shared with others."""

StoreEvent: TypeAlias = tuple[
    Literal["store"], WorkerName, int, int | None, array[int], array[int], Tier
]
"""What PrefixIndex.dump gives."""

IndexEvent: TypeAlias = (
    tuple[Literal["store"], WorkerName, int, int | None, Hashes, Hashes]
    | tuple[Literal["store"], WorkerName, int, int | None, Hashes, Hashes, Tier]
    | tuple[Literal["store_known"], WorkerName, int, Hashes, Tier]
    | tuple[Literal["remove"], WorkerName, int, Hashes]
    | tuple[Literal["remove"], WorkerName, int, Hashes, Tier]
    | tuple[Literal["clear"], WorkerName, int]
    | StoreEvent
)
"""What PrefixIndex.apply takes."""

PolicyValue: TypeAlias = float | bool | str | Sequence["PolicyValue"] | Mapping[str, "PolicyValue"]
"""A policy's parameter; policies inside a policy are names or mappings again."""

Phase: TypeAlias = Literal["whole", "prefill", "decode"]
"""What of a request a worker is chosen for: all of it, its prompt for another worker, or the answer
to a prompt that was computed elsewhere."""

Policy: TypeAlias = str | Mapping[str, PolicyValue]
"""A policy's name, or its "name" with parameters: {"name": "kv_cost", "temperature": 0.2}."""

__version__: Final[str]
build_info: Final[dict[str, str]]
"""Compiler, flags, library versions: for bug reports."""

class KvRouteError(Exception):
    """Root of kvroute's errors."""

class InvalidArgument(KvRouteError, ValueError): ...
class UnknownWorker(KvRouteError, KeyError): ...

class NoEligibleWorker(KvRouteError, RuntimeError):
    @property
    def phase(self) -> str | None:
        """Of "prefill" and "decode", the one that nobody is there for; None: the whole request."""

class Overloaded(NoEligibleWorker): ...

def hash_blocks(
    token_ids: TokenIds,
    block_size: int,
    *,
    lora: str | None = None,
    salt: str | None = None,
    namespace: str | None = None,
) -> array[int]:
    """Local hash of each full block, as array('Q'): XXH3-64, seed 1337, as Dynamo's
    compute_block_hash_for_seq. Empty token ids and a trailing partial block give no hash."""

def sequence_hashes(
    local_hashes: Hashes,
    *,
    lora: str | None = None,
    salt: str | None = None,
    namespace: str | None = None,
) -> array[int]:
    """Chained hash of each block and all before it, as array('Q')."""

def policy_names() -> list[str]:
    """Names that `policy=` takes, without aliases, in the order of the documentation."""

def policy_needs_tokens(policy: Policy) -> bool:
    """Whether it looks at what targets hold of the prompt; if not, nobody need tokenize the prompt
    for it. InvalidArgument for what is no policy, naming the place."""

def score(
    policy: Policy,
    targets: Sequence[Mapping[str, Any]],
    *,
    num_tokens: int,
    block_size: int = 16,
    local_hashes: Hashes | None = None,
    session_id: str | None = None,
    expected_output_tokens: int | None = None,
    now: float = 0.0,
    fleet: Mapping[str, Any] | None = None,
    overlap_credit: float | None = None,
    prefill_scale: float | None = None,
    temperature: float | None = None,
    assume_kv_reuse: bool | None = None,
    track_prefill_tokens: bool | None = None,
) -> list[float | None]:
    """Cost of each target by stated figures: a pure call, without a router. None where the policy
    that decides has no cost.

    A target's figures, each optional: name (its place in the sequence), dp_rank; in blocks of its
    block_size: held, host, disk, external (leading blocks in any tier from the device to that one),
    active, total_blocks, prompt_blocks, output_blocks, expected_output_blocks; prefill_tokens,
    requests, prefilling; in seconds: backlog_seconds, head_seconds, and head_started and joined_at
    of the clock that `now` is of; prefill_scale, prefill_seconds (means), prefill_scale_age
    (seconds since it was measured, 0); waiting, running, kv_usage, report_age (seconds; 0 where one
    of the three is given, never reported otherwise); unreported and unfinished (requests chosen
    since the last report of waiting that have had no first token, or have not ended);
    recent_requests, recent_tokens (as they have faded by now); request_rate and arrivals (times in
    seconds; of request_rate also pairs of a time and its uncached tokens); preference.

    The fleet's: prefill_tokens_per_second, attention_seconds, targets (as many as are stated),
    arrivals, arrival_memory (32 a target), prefill_seconds, prefill_scale, output_tokens,
    decode_seconds, recent_time_constant, window_seconds, report_lifetime. InvalidArgument names a
    figure by its place: "targets[2].held: expected ..."."""

def decide(
    policy: Policy,
    targets: Sequence[Mapping[str, Any]],
    *,
    num_tokens: int,
    block_size: int = 16,
    local_hashes: Hashes | None = None,
    session_id: str | None = None,
    expected_output_tokens: int | None = None,
    now: float = 0.0,
    fleet: Mapping[str, Any] | None = None,
    overlap_credit: float | None = None,
    prefill_scale: float | None = None,
    temperature: float | None = None,
    assume_kv_reuse: bool | None = None,
    track_prefill_tokens: bool | None = None,
    seed: int | None = 0,
) -> tuple[int, str]:
    """The chosen target's place in `targets`, and the name of the policy that decided. Figures as
    of `score`. The seed is that of a router's generator; None takes one from the system."""
@final
class VirtualClock:
    """A clock that moves only when told to; drives a router in simulations."""

    def __init__(self) -> None: ...
    def advance(self, seconds: float) -> None:
        """Moves time forward. InvalidArgument if negative or not finite."""

    def now(self) -> float:
        """Seconds since the clock was made."""

@final
class Selection:
    """Where a request goes, and why. Immutable."""

    @property
    def worker(self) -> WorkerName:
        """The name that add_worker was given."""

    @property
    def dp_rank(self) -> int: ...
    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt's leading blocks that are reachable on the target's device. 0 from
        select_worker under a policy that does not look at the prompt ("round_robin"): nobody looked
        for them."""

    @property
    def prefill_tokens(self) -> int:
        """Tokens of the prompt that the target must compute: all less the cached ones."""

    @property
    def cost(self) -> float | None:
        """The policy's cost of this target, lower is better; None where the policy has none."""

    @property
    def rule(self) -> str:
        """Name of the policy that decided: the configured one, or one that it defers to; "given"
        where one written in Python gave the costs."""

    @property
    def alternatives(self) -> list[tuple[WorkerName, int]]:
        """Where the request might go instead, the best first: as many as were asked for, or there
        are, of the other eligible targets. By the cost of the policy that decided, infinite ones
        last. Of equal costs, and where the policy has none, the target whose bookings use the
        fewest tokens of KV blocks; of equals in that, the next after the chosen one in an order of
        the router's own, and around: what a seed chooses tells them too."""

    def __repr__(self) -> str: ...

@final
class Reservation:
    """One running request's booked load on its target, from selection to release.

    A context manager: leaving the block releases it, also on error. Dropping the last reference
    releases it too. Every method is idempotent and may be called from any thread, also after the
    release or after the worker has left. In a forked child every method raises KvRouteError.
    """

    @property
    def choice(self) -> Selection: ...
    @property
    def request_id(self) -> str: ...
    @property
    def released(self) -> bool: ...
    def first_token(self) -> None:
        """The prefill is done: its tokens no longer count as load."""

    def progress(self, output_tokens: int) -> None:
        """Cumulative count of generated tokens; a lower value than before changes no load. Each
        call, as each of first_token, keeps the booking for another `reservation_ttl`."""

    def release(self, output_token_ids: TokenIds | None = None) -> None:
        """Ends the booking. With `output_token_ids` (all that were sampled), the blocks that prompt
        and output fill together are remembered as predicted for the target; the last token was
        sampled, not computed, and does not count. On a worker with `total_blocks` and without
        events the prompt counts as just used either way."""

    def __enter__(self) -> Reservation: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

@final
class Explanation:
    """Why a request would go where it would go. str() gives a table."""

    @property
    def policy(self) -> str: ...
    @property
    def rule(self) -> str:
        """Name of the policy that decides this request; empty where nobody is eligible."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def targets(self) -> list[TargetExplanation]:
        """Every target that takes part, best first."""

    @property
    def text(self) -> str: ...

@final
class Decision:
    """One decision of the past, with all that it rested on."""

    @property
    def time(self) -> float:
        """Seconds by the router's clock."""

    @property
    def request_id(self) -> str | None:
        """None for select_worker, which books nothing."""

    @property
    def worker(self) -> WorkerName:
        """The chosen one."""

    @property
    def dp_rank(self) -> int: ...
    @property
    def explanation(self) -> Explanation: ...

@final
class _Features:
    """What is known of all eligible targets of a request."""

    @property
    def values(self) -> memoryview:
        """By feature and then by target, as 64-bit floats; read-only."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def router_block_size(self) -> int: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def expected_output_tokens(self) -> int | None: ...
    @property
    def fleet(self) -> dict[str, float]: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def targets(self) -> list[tuple[WorkerName, int]]: ...
    def index(self, name: str) -> int:
        """Place of a name among `names`; -1 if it is none of them."""

@final
class TargetExplanation:
    @property
    def worker(self) -> WorkerName: ...
    @property
    def dp_rank(self) -> int: ...
    @property
    def eligible(self) -> bool: ...
    @property
    def reason(self) -> str:
        """Why it is not eligible; empty if it is."""

    @property
    def cost(self) -> float | None: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def terms(self) -> dict[str, float]:
        """Every term of the cost by name, in the policy's own units."""

@final
class AllowedSet:
    """Workers or ranks for `allowed`, looked up once: see KvRouter.allowed_set."""

    def __len__(self) -> int: ...

@final
class KvRouter:
    """Chooses, for each request, the engine that already holds its KV cache and has room.

    block_size: tokens per block of the workers that do not state their own.
    policy: a name of policy_names(), or a mapping of its name and parameters; by default "kv_cost",
        Dynamo's cost. Or an object with a method `score`: see PythonPolicy (needs NumPy).
    memory_limit: cap on the index's memory: bytes, or a text such as "512MiB" or "1GiB"; None for
        none. At the cap the coldest blocks are forgotten. Where workers have several block sizes,
        each size has an index of its own and an equal share.
    seed: of the generator that breaks ties; None takes one from the system.
    clock: a VirtualClock for simulations; None is the monotonic clock.
    predicted_ttl: seconds that blocks assumed from this router's own decisions count as held.
    reservation_ttl: seconds without a call for a reservation (first_token, progress) after which it
        is dropped, since nobody seems to have it any more.
    prefill_tokens_per_second, attention_seconds: how long engines compute on n uncached tokens:
        n / prefill_tokens_per_second, and attention_seconds for each pair of such a token and one
        before it. Only their proportion matters once first tokens have been measured.
    max_waiting, max_kv_usage, max_prefill_tokens: a target beyond one of these is overloaded and
        not eligible: requests queued in the engine and share of its KV blocks in use, both as it
        reports them, and prompt tokens that this router booked and that are not computed yet. What
        was chosen since the report and has no first token counts as queued. None: no limit. What
        was not reported, or long ago, vetoes nobody.
    recent_time_constant: seconds in which the memory of recent choices fades to 1/e.
    load_window: seconds that request rates are counted over, and after which a target's measured
        speed counts no more.
    report_lifetime: seconds for which an engine's report counts.
    decision_log: decisions kept for `recent_decisions`, at most 10,000; 0: none, at no cost.
    fallback_policy: decides where a policy written in Python fails.

    Requests. `select_worker`, `reserve` and `explain` take by keyword:

    session_id: keeps a session's requests together, under policies that do.
    expected_output_tokens: of the answer, for policies that look ahead.
    lora, salt, namespace: `lora` and `salt` are matched against what engines say in their events;
        `namespace` separates requests of this router only (events name none).
    overlap_credit, prefill_scale, temperature, assume_kv_reuse, track_prefill_tokens: in place of
        the policy's own parameters of these names; a policy without such a parameter does not look
        at it.
    allowed: workers or pairs (worker, dp_rank), or an AllowedSet; None: all.
    pinned: the one worker or pair that may serve it.
    dp_ranks: the data-parallel ranks that may: range(0, 4).
    labels: labels that a worker must have, each with this value.
    preferred_labels: labels with values, {"zone": "a"} or with a weight {"zone": ("a", 2.0)};
        policies that look at it favour who has them.
    model: workers whose label "model" is another one are not eligible.
    phase: None is "whole". The policy of that phase decides (set_policy). A reservation for
        "decode" has nothing to prefill; the first token of one for "prefill" is its answer.
    alternatives: how many further targets the choice shall name, 0 to 4,096. They change nothing in
        who is chosen. Not for `explain`, which tells of all.

    All filters apply together. A worker is also not eligible while it drains (set_draining), where
    others have the request's LoRA adapter resident (set_loras), and beyond a limit above.
    """

    def __init__(
        self,
        block_size: int,
        policy: Policy | PythonPolicy = "kv_cost",
        memory_limit: int | str | None = "1GiB",
        seed: int | None = None,
        clock: VirtualClock | None = None,
        *,
        predicted_ttl: float = 120.0,
        reservation_ttl: float = 600.0,
        prefill_tokens_per_second: float = 12000.0,
        attention_seconds: float = 1.6e-9,
        max_waiting: int | None = None,
        max_kv_usage: float | None = None,
        max_prefill_tokens: int | None = None,
        recent_time_constant: float = 30.0,
        load_window: float = 60.0,
        report_lifetime: float = 60.0,
        decision_log: int = 0,
        fallback_policy: Policy = "kv_cost",
    ) -> None: ...
    @property
    def block_size(self) -> int: ...
    @property
    def policy(self) -> str:
        """The policy's name; "python" for one written in Python."""

    @property
    def policy_spec(self) -> dict[str, Any]:
        """Its name and parameters, as they were given; {"name": "python", "fallback": ...} for one
        written in Python."""

    @property
    def phase_policies(self) -> dict[str, dict[str, Any] | None]:
        """Of "prefill" and "decode": the policy of their own as `policy_spec` has it, or None."""

    def set_policy(
        self,
        policy: Policy | PythonPolicy | None,
        fallback_policy: Policy | None = None,
        phase: Phase | None = None,
    ) -> None:
        """Chooses by another policy, or other parameters, from the next decision on. The index, the
        load and the seed's sequence stay; turns (of "round_robin") begin anew. `fallback_policy`
        is for policies written in Python, this one or later ones; None keeps the one before.
        InvalidArgument leaves the policy as it was.

        With a `phase` ("prefill", "decode") it is for requests of that phase alone, which go by
        the router's policy otherwise; a policy of None takes it away again."""

    def add_worker(
        self,
        worker: WorkerName,
        dp_ranks: int = 1,
        block_size: int | None = None,
        kv_events: str | Sequence[str] | None = None,
        kv_replay: str | Sequence[str] | None = None,
        load_events: str | Sequence[str] | None = None,
        total_blocks: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Adds a worker with `dp_ranks` targets.

        An endpoint is rank 0's; rank r has its port + r, or a list names each. An endpoint with
        `*` makes our side bind. Without kv_events the worker is predicted only: with
        `total_blocks` (blocks of each rank's KV cache) it is assumed to hold so many, the least
        recently used go first; otherwise each for `predicted_ttl` seconds. InvalidArgument if
        the name is taken, an endpoint is malformed, or 4,096 targets are in use.
        """

    def remove_worker(self, worker: WorkerName) -> None:
        """Forgets the worker, its blocks and its bookings. UnknownWorker if it is not there."""

    def workers(self) -> list[WorkerName]:
        """Names in the order of adding."""

    def labels(self, worker: WorkerName) -> dict[str, str]: ...
    def set_draining(self, worker: WorkerName, draining: bool = True) -> None:
        """A worker that drains is not chosen any more; what runs there goes on. UnknownWorker."""

    def set_loras(self, worker: WorkerName, loras: Iterable[str]) -> None:
        """The LoRA adapters that the worker has resident, in place of those said before. A request
        that names one goes to workers that have it, if one of them is eligible; else to any.
        UnknownWorker."""

    def allowed_set(self, workers: Sequence[WorkerRef]) -> AllowedSet:
        """These workers or ranks for `allowed`, looked up now and again only when workers came or
        left: as quick as no `allowed` at all. Who has left is left out until it is back.
        UnknownWorker: a name or rank that is not there now."""

    def select_worker(
        self,
        token_ids: TokenIds,
        allowed: Sequence[WorkerRef] | AllowedSet | None = None,
        *,
        expected_output_tokens: int | None = None,
        session_id: str | None = None,
        lora: str | None = None,
        salt: str | None = None,
        namespace: str | None = None,
        overlap_credit: float | None = None,
        prefill_scale: float | None = None,
        temperature: float | None = None,
        assume_kv_reuse: bool | None = None,
        track_prefill_tokens: bool | None = None,
        pinned: WorkerRef | None = None,
        dp_ranks: range | None = None,
        labels: Mapping[str, str] | None = None,
        preferred_labels: Mapping[str, str | tuple[str, float]] | None = None,
        model: str | None = None,
        phase: Phase | None = None,
        alternatives: int = 0,
    ) -> Selection:
        """Chooses a target. Books and predicts nothing.

        InvalidArgument: empty or malformed token ids, an empty `allowed`. UnknownWorker: a name or
        rank in `allowed` or `pinned` that is not there. Overloaded: all who would be eligible are
        beyond a limit. NoEligibleWorker: nobody is left, and why. O(blocks + targets), and with
        alternatives O(targets * log alternatives) more.
        """

    def select_worker_by_hashes(
        self,
        local_hashes: Hashes,
        num_tokens: int,
        allowed: Sequence[WorkerRef] | AllowedSet | None = None,
        *,
        expected_output_tokens: int | None = None,
        session_id: str | None = None,
        lora: str | None = None,
        overlap_credit: float | None = None,
        prefill_scale: float | None = None,
        temperature: float | None = None,
        assume_kv_reuse: bool | None = None,
        track_prefill_tokens: bool | None = None,
        pinned: WorkerRef | None = None,
        dp_ranks: range | None = None,
        labels: Mapping[str, str] | None = None,
        preferred_labels: Mapping[str, str | tuple[str, float]] | None = None,
        model: str | None = None,
        phase: Phase | None = None,
        alternatives: int = 0,
    ) -> Selection:
        """The same from local hashes (of `block_size`, see hash_blocks) computed elsewhere.
        `num_tokens` is the prompt's length, at least len(local_hashes) * block_size. Adapter, salt
        and namespace are in the hashes; `lora` is for who has it resident. A worker with another
        block size counts as holding nothing: the hashes say nothing of its blocks."""

    def reserve(
        self,
        token_ids: TokenIds,
        request_id: str | None = None,
        expected_output_tokens: int | None = None,
        allowed: Sequence[WorkerRef] | AllowedSet | None = None,
        *,
        session_id: str | None = None,
        lora: str | None = None,
        salt: str | None = None,
        namespace: str | None = None,
        overlap_credit: float | None = None,
        prefill_scale: float | None = None,
        temperature: float | None = None,
        assume_kv_reuse: bool | None = None,
        track_prefill_tokens: bool | None = None,
        pinned: WorkerRef | None = None,
        dp_ranks: range | None = None,
        labels: Mapping[str, str] | None = None,
        preferred_labels: Mapping[str, str | tuple[str, float]] | None = None,
        model: str | None = None,
        phase: Phase | None = None,
        alternatives: int = 0,
    ) -> Reservation:
        """Select, book and predict in one critical section. `request_id` must be unique among
        running reservations (InvalidArgument otherwise); None makes one up."""

    def reserve_by_hashes(
        self,
        local_hashes: Hashes,
        num_tokens: int,
        request_id: str | None = None,
        expected_output_tokens: int | None = None,
        allowed: Sequence[WorkerRef] | AllowedSet | None = None,
        *,
        session_id: str | None = None,
        lora: str | None = None,
        overlap_credit: float | None = None,
        prefill_scale: float | None = None,
        temperature: float | None = None,
        assume_kv_reuse: bool | None = None,
        track_prefill_tokens: bool | None = None,
        pinned: WorkerRef | None = None,
        dp_ranks: range | None = None,
        labels: Mapping[str, str] | None = None,
        preferred_labels: Mapping[str, str | tuple[str, float]] | None = None,
        model: str | None = None,
        phase: Phase | None = None,
        alternatives: int = 0,
    ) -> Reservation:
        """As `reserve`, from local hashes as `select_worker_by_hashes` takes them. Full blocks of
        the prompt without a hash, and all of them on a worker with another block size, count as
        load of this request alone, and are not predicted.

        What follows the hashes is not known, so that `release(output_token_ids)` remembers blocks
        of the output only where `num_tokens` is len(local_hashes) * block_size, and otherwise the
        prompt's alone. They are hashed for `lora`, without salt or namespace: with one of these,
        release without output."""

    def reserve_pair(
        self,
        token_ids: TokenIds,
        request_id: str | None = None,
        expected_output_tokens: int | None = None,
        *,
        prefill_allowed: Sequence[WorkerRef] | AllowedSet | None = None,
        decode_allowed: Sequence[WorkerRef] | AllowedSet | None = None,
        lora: str | None = None,
        salt: str | None = None,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        model: str | None = None,
    ) -> tuple[Reservation, Reservation]:
        """Chooses who computes the prompt and who gives the answer together, by the predicted time
        to first token (`set_pair_choice`) in place of the phases' policies. Both are booked, as
        `reserve` books the phases "prefill" and "decode", in one critical section. Of both choices
        `cost` is that time in seconds and `rule` is "joint". A `request_id` gets "/prefill" and
        "/decode" at its end.

        As `reserve` otherwise; NoEligibleWorker and Overloaded name the leg in `phase`, and then
        nothing is booked. O(blocks + targets)."""

    def explain_pair(
        self,
        token_ids: TokenIds,
        *,
        expected_output_tokens: int | None = None,
        prefill_allowed: Sequence[WorkerRef] | AllowedSet | None = None,
        decode_allowed: Sequence[WorkerRef] | AllowedSet | None = None,
        lora: str | None = None,
        salt: str | None = None,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        model: str | None = None,
    ) -> tuple[Explanation, Explanation]:
        """What `reserve_pair` would choose by, prefill and decode: each candidate's costs beside
        the target that it would choose for the other leg. Changes nothing; raises as it does."""

    def set_pair_choice(
        self,
        *,
        same_host: float = 1.8e-7,
        same_zone: float = 1.6e-6,
        elsewhere: float = 1.3e-5,
        step: float = 2.4e-8,
        decode_steps: float = 1.0,
    ) -> None:
        """What pairs are chosen by, from the next one on, in seconds:

            backlog of the prefill target + prefill of what it does not hold
            + tokens that the decode target does not hold * same_host, same_zone or elsewhere
            + decode_steps * step * tokens in use there, with the prompt

        Where workers are, their labels "host" and "zone" say. To and from a worker that has neither
        a token takes the mean of the candidates' known pairs, or `same_zone` where there is none;
        from a target to itself it takes no time. A decode target without room for prompt and
        expected output is chosen only if nobody has any. Pairs whose two halves (the first line;
        the rest) are each within 5 % and 1 ms of the best pair's are equal: the decode target with
        the fewest tokens in use is taken, and the prefill target chosen least of late.

        The rates are seconds a token; defaults: 327,680 bytes (70 billion parameters, 80 layers, 8
        heads of 128, 16 bits) over NVLink of four H100, four 400 Gbit/s links, one of 200 Gbit/s,
        and out of the four's memory. `decode_steps`: 1 counts the first token alone, the answer's
        length its whole decode. InvalidArgument: a number outside 0 to 1e6, or a nearer way that
        takes longer than a farther one."""

    @property
    def pair_choice(self) -> dict[str, float]:
        """As `set_pair_choice` takes it."""

    def explain(
        self,
        token_ids: TokenIds,
        allowed: Sequence[WorkerRef] | AllowedSet | None = None,
        *,
        expected_output_tokens: int | None = None,
        session_id: str | None = None,
        lora: str | None = None,
        salt: str | None = None,
        namespace: str | None = None,
        overlap_credit: float | None = None,
        prefill_scale: float | None = None,
        temperature: float | None = None,
        assume_kv_reuse: bool | None = None,
        track_prefill_tokens: bool | None = None,
        pinned: WorkerRef | None = None,
        dp_ranks: range | None = None,
        labels: Mapping[str, str] | None = None,
        preferred_labels: Mapping[str, str | tuple[str, float]] | None = None,
        model: str | None = None,
        phase: Phase | None = None,
    ) -> Explanation:
        """Every target and every term of its cost, or the filter that excludes it. Changes
        nothing."""

    def recent_decisions(self, limit: int = 100) -> list[Decision]:
        """The last decisions of select_worker and reserve, the oldest first, of those that
        `decision_log` keeps; fewer where loads change much between decisions, or where they would
        take more than 256 MiB. The terms are computed now, by the policy of then, from the figures
        of then."""

    def overlaps(
        self,
        token_ids: TokenIds,
        *,
        tier: Tier = "device",
        lora: str | None = None,
        salt: str | None = None,
        namespace: str | None = None,
    ) -> dict[tuple[WorkerName, int], int]:
        """Cached tokens of each target that holds at least one leading block, where a block may lie
        in any tier from the device to `tier`."""

    def update_load(
        self,
        worker: WorkerName,
        dp_rank: int = 0,
        *,
        waiting: int | None = None,
        running: int | None = None,
        kv_usage: float | None = None,
        kv_tokens: int | None = None,
    ) -> None:
        """What the engine reports of itself; a field left out keeps its last value.

        kv_tokens: so many tokens its KV cache has room for. It counts as the rank's `total_blocks`
        where `add_worker` was given none; it does not bound what is assumed to be held.
        """

    def stats(self) -> RouterStats: ...
    def close(self) -> None:
        """Stops the event thread and drops all state. Further calls raise InvalidArgument, except
        those of reservations and `close` itself, which do nothing."""

    def __enter__(self) -> KvRouter: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

@final
class TargetStats:
    """One target's state."""

    @property
    def worker(self) -> WorkerName: ...
    @property
    def dp_rank(self) -> int: ...
    @property
    def active_requests(self) -> int:
        """Reservations that are not released."""

    @property
    def active_prefill_tokens(self) -> int:
        """Uncached prompt tokens of reservations without a first token."""

    @property
    def active_blocks(self) -> int:
        """Blocks of running reservations, shared prefixes counted once, output included."""

    @property
    def held_blocks(self) -> int:
        """Blocks that the target holds on its device: exact and predicted."""

    @property
    def total_blocks(self) -> int | None:
        """The capacity that add_worker was given, else the one that the engine reported."""

    @property
    def draining(self) -> bool: ...
    @property
    def waiting(self) -> int | None:
        """Last reported; None before the first report."""

    @property
    def running(self) -> int | None: ...
    @property
    def kv_usage(self) -> float | None: ...
    @property
    def load_age(self) -> float | None:
        """Seconds since the last report."""

    @property
    def first_token_seconds(self) -> float | None:
        """Mean time from reserve to first_token over the load window; None without any."""

    @property
    def selections(self) -> int:
        """Times the target was chosen by select_worker or reserve."""

    @property
    def events(self) -> dict[str, int]:
        """Counters of its event stream, all 0 without one: `batches`, `stored_blocks`,
        `removed_blocks` (both on the device), `stored_lower`, `removed_lower` (below it), `clears`,
        `duplicates`, `unknown_parents`, `unknown_blocks`, `refused_block_size`, `gaps`, `replays`,
        `failed_replays`, `lost_batches`, `restarts`, `invalidations`, `undecodable`, `bad_events`,
        `ignored`, `last_sequence` (-1 before the first), `connected` (0 or 1), `partial` (1: the
        engine's past is not wholly known)."""

@final
class IndexStats:
    """State of one prefix index."""

    @property
    def block_size(self) -> int:
        """0 for a PrefixIndex, which knows only hashes."""

    @property
    def blocks(self) -> int:
        """Distinct blocks (prefixes) in the tree."""

    @property
    def held(self) -> int:
        """Pairs (target, block) on the device, exact and predicted."""

    @property
    def predicted(self) -> int:
        """Those of them that are predicted."""

    @property
    def held_lower(self) -> int:
        """Triples (target, block, tier) below the device."""

    @property
    def waiting(self) -> int:
        """Blocks that wait for their parent."""

    @property
    def pins(self) -> int:
        """Places of running requests; 0 for a PrefixIndex."""

    @property
    def nodes(self) -> int:
        """Runs of blocks that the tree consists of."""

    @property
    def targets(self) -> int: ...
    @property
    def bytes(self) -> int:
        """Memory of the index."""

    @property
    def bytes_by_kind(self) -> dict[str, int]:
        """The same by what it is for: `labels`, `names`, `nodes`, `edges`, `coverage`, `requests`,
        `waiting`."""

    @property
    def memory_limit(self) -> int | None: ...
    @property
    def forgotten(self) -> int:
        """Pairs (target, block) dropped to stay below the limit."""

    @property
    def counters(self) -> dict[str, int]:
        """Since the index was made, in blocks: `stored`, `duplicates`, `confirmed`, `renamed`,
        `unknown_parents` (came before their parent), of them `adopted` (it came) and
        `waited_in_vain` (they made room for others, or it was of another namespace), `removed`,
        `unknown_removed`, `predicted`, `expired`, `outlived` (beyond a target's capacity),
        `forgotten_exact`, `forgotten_predicted` (for the memory limit)."""

@final
class RouterStats:
    @property
    def targets(self) -> list[TargetStats]: ...
    @property
    def indexes(self) -> list[IndexStats]:
        """One for each block size in use."""

    @property
    def reservations(self) -> int: ...
    @property
    def expired_reservations(self) -> int: ...
    @property
    def selections(self) -> int: ...
    @property
    def policy_fallbacks(self) -> int:
        """Decisions of the fallback policy where one written in Python failed."""

@final
class Overlaps(Mapping[tuple[WorkerName, int], int]):
    """A mapping {(worker, dp_rank): depth in blocks}, of the targets whose depth is at least 1."""

    def __getitem__(self, key: tuple[WorkerName, int], /) -> int: ...
    def __iter__(self) -> Iterator[tuple[WorkerName, int]]: ...
    def __len__(self) -> int: ...
    def arrays(self) -> tuple[list[tuple[WorkerName, int]], array[int]]:
        """Targets, and their depths as array('I'), in the same order."""

@final
class ApplyResult:
    """What became of a batch of events, in blocks."""

    @property
    def stored(self) -> int:
        """Newly held, those included that had waited for their parent."""

    @property
    def duplicates(self) -> int:
        """Stored while they were held already."""

    @property
    def removed(self) -> int:
        """No longer held."""

    @property
    def waiting(self) -> int:
        """Put aside until their parent comes."""

    @property
    def unknown(self) -> int:
        """Hashes to remove, or known before, that the target did not hold."""

    def __repr__(self) -> str: ...

@final
class PrefixIndex:
    """What each target holds, by itself: of one block size, fed and asked in hashes.

    memory_limit: bytes or text as of KvRouter; None (default) for no cap.
    repeated_stores: "count": a block stored n times must be removed n times (vLLM); "set": once.
    max_waiting: most blocks, of all targets together, that wait for a parent which their target has
        not announced; the oldest make room for new ones. 0: none wait.

    A target exists from its first store until its worker is removed. Blocks are held in a tier:
    "device", "host", "disk" or "external" (shared); where none is named, on the device.
    """

    def __init__(
        self,
        memory_limit: int | str | None = None,
        *,
        repeated_stores: Literal["count", "set"] = "count",
        max_waiting: int = 65536,
    ) -> None: ...
    def store(
        self,
        worker: WorkerName,
        engine_hashes: Hashes,
        local_hashes: Hashes,
        parent: int | None = None,
        dp_rank: int = 0,
        *,
        tier: Tier = "device",
    ) -> int:
        """The target now holds these consecutive blocks, after the block that it announced as
        `parent` (None: from the start). Both sequences have the same length. Blocks whose parent is
        not known wait until it comes. Gives the number of blocks newly held, those included that
        had waited."""

    def store_known(
        self, worker: WorkerName, engine_hashes: Hashes, tier: Tier, dp_rank: int = 0
    ) -> int:
        """Blocks that the target holds in some tier are now held in `tier` too; others are counted
        and ignored. For engines that name no more than hashes when they offload. Gives the number
        of blocks newly held in the tier."""

    def remove(
        self,
        worker: WorkerName,
        engine_hashes: Hashes,
        dp_rank: int = 0,
        *,
        tier: Tier = "device",
    ) -> int:
        """Gives the number of blocks no longer held in the tier; unknown hashes are counted and
        ignored."""

    def clear(self, worker: WorkerName, dp_rank: int | None = None) -> None:
        """Forgets all blocks of the worker, or of one of its ranks, in all tiers. Nothing happens
        to one that has stored nothing."""

    def remove_worker(self, worker: WorkerName) -> None:
        """Forgets the worker and its targets. UnknownWorker if it has stored nothing."""

    def apply(self, events: Iterable[IndexEvent]) -> ApplyResult:
        """Many events by one call, in their order; each is a tuple or list:

        ("store", worker, dp_rank, parent, engine_hashes, local_hashes[, tier])
        ("store_known", worker, dp_rank, engine_hashes, tier)
        ("remove", worker, dp_rank, engine_hashes[, tier])
        ("clear", worker, dp_rank)

        All are read and checked before the first is applied: after an InvalidArgument, whose
        message names the event and its field, nothing has changed (but where there are too many
        targets, the events before are applied). The GIL is released while they are applied."""

    def match(self, local_hashes: Hashes) -> Overlaps:
        """Reachable depth on the device, in blocks, of each target that holds at least the first
        block. O(blocks + targets)."""

    def match_many(self, requests: Iterable[Hashes]) -> list[Overlaps]:
        """One match for each request, by one call."""

    def overlaps(
        self, local_hashes: Hashes
    ) -> tuple[list[tuple[WorkerName, int]], tuple[array[int], array[int], array[int], array[int]]]:
        """All targets, and four array('I') with one depth for each target: on the device alone, and
        with host, disk and external added one after the other (so none is below the one before)."""

    def targets(self) -> list[tuple[WorkerName, int]]:
        """Targets that have stored blocks."""

    def dump(self) -> list[StoreEvent]:
        """What is held now, as store events with array('Q'): applied to an empty index, they give
        one that matches alike. Further names and copies of a block are left out."""

    def snapshot(self) -> bytes:
        """Everything that the index holds, as of one moment; matches go on meanwhile. The bytes are
        the same on every machine, versioned and checksummed."""

    def restore(self, snapshot: Buffer) -> None:
        """Replaces everything by a snapshot's content, and begins the counters anew.
        InvalidArgument where the bytes are damaged, cut off, of another kind or version; the index
        is then as it was. Matches go on meanwhile, on the old content until the new is whole."""

    def save(self, path: str | bytes | PathLike[str] | PathLike[bytes]) -> None:
        """Writes a snapshot to a file: wholly, or not at all (OSError)."""

    def load(self, path: str | bytes | PathLike[str] | PathLike[bytes]) -> None:
        """Restores the snapshot in a file. OSError where it cannot be read."""

    def stats(self) -> IndexStats: ...

def _next_log_record(timeout: float) -> tuple[int, str] | None: ...
def _close_log() -> None: ...
