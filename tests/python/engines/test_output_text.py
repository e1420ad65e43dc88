"""Generated text: reproducible, the same whole or in pieces, and what its ids say."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from kvroute.engines.byte_tokenizer import ByteTokenizer
from kvroute.engines.context_hash import ContextHash
from kvroute.engines.output_text import Lexicon, OutputText

TOKENIZER = ByteTokenizer()
LEXICON = Lexicon(TOKENIZER)


class HalfWordTokenizer(ByteTokenizer):
    """Two tokens a word, by number: ids beyond a byte, as a trained tokenizer has them."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        special = [0] if add_special_tokens else []
        return [*special, 1000 + len(text), 2000 + sum(text.encode())]


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 120), min_size=2, max_size=5))
def test_pieces_join_to_the_whole(seed: int, cuts: list[int]) -> None:
    cuts.sort()
    pieces = OutputText(LEXICON, seed)
    joined = "".join(pieces.text(*cut) for cut in pairwise(cuts))
    assert joined == OutputText(LEXICON, seed).text(cuts[0], cuts[-1])


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, 200))
def test_ids_encode_the_text(seed: int, count: int) -> None:
    output = OutputText(LEXICON, seed)
    text = output.text(0, count)
    assert TOKENIZER.encode(text, add_special_tokens=False) == output.ids(0, count)
    assert TOKENIZER.decode(output.ids(0, count)) == text


def test_a_word_whose_tokens_say_nothing_alone_shows_with_its_last() -> None:
    output = OutputText(Lexicon(HalfWordTokenizer()), 3)
    assert output.text(0, 1) == ""
    assert output.text(1, 2).startswith(" ")
    assert [token // 1000 for token in output.ids(0, 4)] == [1, 2, 1, 2]


def test_half_a_character_shows_with_its_other_half() -> None:
    output = OutputText(Lexicon(ByteTokenizer(), words=("é",)), 3)
    assert [output.text(at, at + 1) for at in range(3)] == [" ", "", "é"]
    assert output.ids(0, 3) == list(" é".encode())


def test_other_seeds_say_other_things() -> None:
    assert len({OutputText(LEXICON, seed).text(0, 40) for seed in range(20)}) == 20


@settings(deadline=None)
@given(st.binary(max_size=600), st.integers(0, 2**64 - 1), st.integers(0, 300))
def test_a_prompt_with_the_answer_s_beginning_is_answered_by_its_rest(
    prompt: bytes, seed: int, given_tokens: int
) -> None:
    for lexicon in (LEXICON, Lexicon(HalfWordTokenizer())):
        whole = OutputText(lexicon, seed, list(prompt))
        begun = [*prompt, *whole.ids(0, given_tokens)]
        rest = OutputText(lexicon, seed, begun)
        assert rest.ids(0, 50) == whole.ids(given_tokens, given_tokens + 50)
        assert rest.text(0, 50) == whole.text(given_tokens, given_tokens + 50)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=700), st.integers(0, 700))
def test_a_context_s_hash_is_the_same_however_the_tokens_came(ids: list[int], cut: int) -> None:
    context = ContextHash(ids[:cut])
    for token in ids[cut:]:
        context.push(token)
    assert context.value == ContextHash(ids).value


def test_a_context_s_hash_depends_on_every_token_however_long() -> None:
    prompt = list(range(100_500))
    hashes = {ContextHash(prompt).value, ContextHash(prompt[:-1]).value}
    for position in (0, 255, 256, 70_000, 100_499):
        changed = [*prompt]
        changed[position] += 1
        hashes.add(ContextHash(changed).value)
    assert len(hashes) == 7
