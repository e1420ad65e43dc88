"""How long one step of a simulated engine takes, and one transfer to another engine."""

from __future__ import annotations

from dataclasses import dataclass

from kvroute.engines.errors import InvalidConfigError


@dataclass(frozen=True, slots=True)
class CostModel:
    """The time of one batched forward step, as a linear model with one quadratic term.

    ::

        seconds = (base_step
                   + prefill_tokens / prefill_tokens_per_second
                   + per_attention_pair * sum(chunk * (start + chunk / 2))   over prefill chunks
                   + per_sequence       * decoding sequences
                   + per_context_token  * sum(context length)                over decoding sequences
                  ) / speed

    where a prefill chunk of ``chunk`` tokens begins at position ``start`` of its sequence.

    The defaults stand for a dense 70 B model in 16 bit on four H100: 140 GB of weights read at
    4 x 3.35 TB/s are 10.4 ms, with launches 12 ms; 140 GFLOP a token at 43 % of 4 x 990 TFLOP/s
    are 12,000 tokens/s; 2.6 MFLOP for each (token, earlier token) pair are 1.7 ns; 320 KiB of KV
    cache for each token of context, read at four fifths of the bandwidth, are 30 ns.

    Attributes:
        base_step: seconds that every step takes, however small.
        prefill_tokens_per_second: throughput of prefill without attention.
        per_attention_pair: seconds for each pair of a prefilled token and one before it.
        per_sequence: seconds for each decoding sequence.
        per_context_token: seconds for each token of context of a decoding sequence.
        kv_bytes_per_token: what one token's KV cache weighs.
        transfer_bandwidth: bytes a second from engine to engine; 50 GB/s is a 400 Gbit/s network.
        speed: every duration is divided by it; 1 is real time.
    """

    base_step: float = 0.012
    prefill_tokens_per_second: float = 12_000.0
    per_attention_pair: float = 1.7e-9
    per_sequence: float = 20e-6
    per_context_token: float = 30e-9
    kv_bytes_per_token: float = 327_680.0
    transfer_bandwidth: float = 50e9
    speed: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            "base_step",
            "per_attention_pair",
            "per_sequence",
            "per_context_token",
            "kv_bytes_per_token",
        ):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InvalidConfigError(f"{name}: expected a finite number >= 0, got {value!r}")
        for name in ("prefill_tokens_per_second", "transfer_bandwidth", "speed"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise InvalidConfigError(f"{name}: expected a finite number > 0, got {value!r}")

    def step_seconds(
        self,
        prefill_tokens: int,
        attention_pairs: float,
        decoding_sequences: int,
        context_tokens: int,
    ) -> float:
        """Seconds of one step; the arguments are the sums of the formula above."""
        seconds = (
            self.base_step
            + prefill_tokens / self.prefill_tokens_per_second
            + attention_pairs * self.per_attention_pair
            + decoding_sequences * self.per_sequence
            + context_tokens * self.per_context_token
        )
        return seconds / self.speed

    def transfer_seconds(self, tokens: int) -> float:
        """Seconds in which the KV cache of so many tokens gets from one engine to another."""
        return tokens * self.kv_bytes_per_token / self.transfer_bandwidth / self.speed
