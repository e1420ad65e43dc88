from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvroute.traces import PromptBuilder, TraceRequest, generate_trace, infinite_cache_tokens

# The first token ids of block 3, seed 0, vocabulary 32,000, computed independently with
# int.from_bytes(hashlib.shake_128(b"kvroute trace block 0 3").digest(16)[4 * i:4 * i + 4],
# "little") % 32000.
PINNED = [24194, 13194, 16603, 31081]


def request(input_length: int, *hash_ids: int) -> TraceRequest:
    return TraceRequest(0.0, input_length, 10, hash_ids)


def test_the_same_id_gives_the_same_tokens_in_every_process() -> None:
    first = PromptBuilder().prompt(request(512, 3))
    assert first == PromptBuilder().prompt(request(512, 3))
    assert list(first[:4]) == PINNED
    assert first != PromptBuilder(seed=1).prompt(request(512, 3))
    assert first != PromptBuilder().prompt(request(512, 4))


def test_prompts_are_unsigned_32_bit_arrays_as_long_as_the_request_says() -> None:
    tokens = PromptBuilder(vocab_size=1000).prompt(request(1030, 0, 1, 2))
    assert isinstance(tokens, array)
    assert tokens.typecode == "I"
    assert len(tokens) == 1030
    assert max(tokens) < 1000


def test_blocks_are_spread_over_the_whole_vocabulary() -> None:
    tokens = PromptBuilder(vocab_size=100).prompt(request(512 * 40, *range(40)))
    counts = [tokens.count(token) for token in range(100)]
    expected = len(tokens) / 100
    assert sum((count - expected) ** 2 / expected for count in counts) < 150  # chi2, 99 degrees


def test_a_partial_block_begins_like_the_full_one() -> None:
    builder = PromptBuilder()
    assert builder.prompt(request(512 + 100, 0, 9)) == builder.prompt(request(1024, 0, 9))[:612]


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25, 0.1, 0.001])
def test_scaling_cuts_every_block_alike(scale: float) -> None:
    builder = PromptBuilder(length_scale=scale)
    one = builder.prompt(request(1200, 0, 1, 2))
    other = builder.prompt(request(2048, 0, 1, 3, 4))
    shared = 2 * builder.block_tokens
    assert one[:shared] == other[:shared]
    assert len(one) == 2 * builder.block_tokens + max(1, round(176 * scale))
    assert len(other) == 4 * builder.block_tokens


@given(st.integers(1, 4000), st.floats(0.01, 1.0))
def test_the_stated_length_is_the_length(input_length: int, scale: float) -> None:
    builder = PromptBuilder(length_scale=scale, cached_blocks=16)
    asked = request(input_length, *range(-(-input_length // 512)))
    assert len(builder.prompt(asked)) == builder.prompt_length(asked) >= 1
    assert builder.output_length(asked) >= 1


def test_the_cache_is_bounded_and_changes_nothing() -> None:
    small, large = PromptBuilder(cached_blocks=2), PromptBuilder()
    asked = request(512 * 8, *range(8))
    assert small.prompt(asked) == large.prompt(asked) == small.prompt(asked)
    assert small._block.cache_info().currsize == 2


@pytest.mark.parametrize("vocab_size", [1, 0, -5, (1 << 32) + 1])
def test_refuses_vocabularies_that_are_none(vocab_size: int) -> None:
    with pytest.raises(ValueError, match="vocab_size: expected"):
        PromptBuilder(vocab_size=vocab_size)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.01, float("nan")])
def test_refuses_scales_outside_their_range(scale: float) -> None:
    with pytest.raises(ValueError, match="length_scale: expected"):
        PromptBuilder(length_scale=scale)


def test_infinite_cache_spares_full_blocks_of_what_came_before() -> None:
    builder = PromptBuilder(length_scale=0.25)  # 128 tokens a block
    trace = [request(1200, 0, 1, 2), request(1500, 0, 1, 3), request(700, 0, 8)]
    assert infinite_cache_tokens(trace, builder, block_size=16) == 256 + 128
    assert infinite_cache_tokens(trace, builder, block_size=100) == 200 + 100


def test_infinite_cache_never_spares_the_last_token() -> None:
    builder = PromptBuilder()
    assert infinite_cache_tokens([request(512, 0)] * 2, builder, block_size=16) == 496
    assert infinite_cache_tokens([request(600, 0, 1)] * 2, builder, block_size=16) == 592


def test_infinite_cache_agrees_with_comparing_the_tokens_themselves() -> None:
    builder = PromptBuilder(length_scale=0.05)
    trace = generate_trace(60, seed=3)
    seen: set[tuple[int, ...]] = set()
    spared = 0
    for asked in trace:
        tokens = builder.prompt(asked)
        ends = range(16, len(tokens) + 1, 16)
        prefixes = [tuple(tokens[:end]) for end in ends]
        depth = 0
        while depth < len(prefixes) and prefixes[depth] in seen:
            depth += 1
        spared += min(depth * 16, (len(tokens) - 1) // 16 * 16)
        seen.update(prefixes)
    assert infinite_cache_tokens(trace, builder, block_size=16) == spared > 0
