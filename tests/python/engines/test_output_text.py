"""Generated text: reproducible, the same whole or in pieces, and what its ids say."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from kvroute.engines.byte_tokenizer import ByteTokenizer
from kvroute.engines.output_text import Lexicon, OutputText, prompt_hash

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


def test_other_seeds_say_other_things() -> None:
    assert len({OutputText(LEXICON, seed).text(0, 40) for seed in range(20)}) == 20


def test_a_prompt_s_hash_depends_on_every_token_however_long() -> None:
    prompt = list(range(100_500))
    hashes = {prompt_hash(prompt), prompt_hash(prompt[:-1])}
    for position in (0, 1023, 1024, 70_000, 100_499):
        changed = [*prompt]
        changed[position] += 1
        hashes.add(prompt_hash(changed))
    assert len(hashes) == 7
    assert prompt_hash(prompt) == prompt_hash(list(range(100_500)))
