"""Stop strings, with a detokeniser of one byte a token (so that characters span tokens)."""
import random

import pytest

from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.engine.stopping import stop_cut
from tests.helpers.tiny_models import make_tokenizer
from tests.helpers.tiny_tokenizers import byte_fallback


def text(ids):
    return bytes(ids).decode("utf-8", "replace")


def test_the_cut_is_after_the_token_that_completes_the_string():
    assert stop_cut(list(b"abc STOP def"), 0, ("STOP",), text) == 8


def test_a_string_is_found_across_the_border_of_two_chunks():
    ids = list(b"x" * 50 + b"#### 1\n")
    assert stop_cut(ids[:52], 0, ("####",), text) is None
    assert stop_cut(ids, 52, ("####",), text) == 54


def test_the_earliest_of_several_strings_wins():
    assert stop_cut(list(b"one two three"), 0, ("three", "two"), text) == 7


def test_a_string_of_multibyte_characters_is_found_in_its_last_byte():
    ids = list("näh… ⟂⟂ end".encode())
    cut = stop_cut(ids, 0, ("⟂⟂",), text)
    assert text(ids[:cut]).endswith("⟂⟂") and "⟂⟂" not in text(ids[:cut - 1])


def test_no_string_gives_none_however_it_is_chunked():
    ids = list(b"abcabdabe" * 20)
    assert all(
        stop_cut(ids[:end], max(0, end - 3), ("abf", "zz"), text) is None for end in range(1, len(ids)))


LETTERS = "ab你好吗。😀é \n#▁äHuman:"


@pytest.fixture(scope="module")
def detokenisers(tmp_path_factory):
    """{kind: (encode, decode, number of ids)} of tokenizers that spread characters over tokens."""
    kinds = {"byte level": make_tokenizer(tmp_path_factory.mktemp("tokenizer")), "llama": byte_fallback(),
             "gemma": byte_fallback(strip=False)}
    return {kind: Tokenizer(hf, kind) for kind, hf in kinds.items()}


def slowly(ids, strings, decode):
    """The shortest beginning whose text holds one of the strings, found by decoding every one."""
    return next((end for end in range(1, len(ids) + 1)
                 if any(string in decode(ids[:end]) for string in strings)), None)


def quickly(ids, strings, decode, chunk):
    """The same as the engine has it, a few tokens at a time."""
    for checked in range(0, len(ids), chunk):
        cut = stop_cut(ids[:checked + chunk], checked, strings, decode)
        if cut is not None:
            return cut
    return None


@pytest.mark.parametrize("kind", ["byte level", "llama", "gemma"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
def test_stop_strings_are_found_where_decoding_every_beginning_finds_them(detokenisers, kind, chunk):
    tokenizer = detokenisers[kind]
    generator = random.Random(chunk)
    found = 0
    for _ in range(60):
        text = "".join(generator.choices(LETTERS, k=generator.randint(10, 40)))
        start = generator.randrange(len(text) - 8)
        strings = [text[start:start + generator.randint(1, 8)], "".join(generator.choices(LETTERS, k=3))]
        ids = tokenizer.encode(text).tolist()
        for _ in range(generator.choice([0, 0, 3, 20])):
            ids.insert(generator.randrange(len(ids)), 1)  # a special token, which has no text
        expected = slowly(ids, strings, tokenizer.decode)
        assert quickly(ids, strings, tokenizer.decode, chunk) == expected, (text, strings)
        found += expected is not None
    assert found > 40


@pytest.mark.parametrize("kind", ["byte level", "llama", "gemma"])
def test_stop_strings_are_found_likewise_among_bytes_that_are_no_text(detokenisers, kind):
    tokenizer = detokenisers[kind]
    generator = random.Random(0)
    for _ in range(60):
        ids = generator.choices(range(len(tokenizer.hf)), k=30)
        ids += tokenizer.encode("".join(generator.choices(LETTERS, k=12))).tolist()
        text = tokenizer.decode(ids)
        start = generator.randrange(len(text))
        strings = [text[start:start + generator.randint(1, 4)]]
        assert quickly(ids, strings, tokenizer.decode, 2) == slowly(ids, strings, tokenizer.decode)


@pytest.mark.parametrize("text, stop, end", [
    ("你好吗。 so", "。", "你好吗。"), ("a\n\nb", "\n\n", "a\n\n"),
    ("so. Human: x", " Human:", "so. Human:"), ("a😀😀b", "😀😀", "a😀😀")])
@pytest.mark.parametrize("kind", ["byte level", "llama", "gemma"])
def test_a_stop_string_ends_the_text_one_token_at_a_time(detokenisers, kind, text, stop, end):
    tokenizer = detokenisers[kind]
    ids = tokenizer.encode(text).tolist()
    assert tokenizer.decode(ids[:quickly(ids, [stop], tokenizer.decode, 1)]) == end


def test_windows_stay_short_in_a_long_completion(detokenisers):
    tokenizer = detokenisers["llama"]
    ids = tokenizer.encode("the " * 2000).tolist()
    lengths = []

    def decode(window):
        lengths.append(len(window))
        return tokenizer.decode(window)
    assert stop_cut(ids, len(ids) - 4, ["never", "。"], decode) is None and max(lengths) < 20
