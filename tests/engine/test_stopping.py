"""Stop strings, with a detokeniser of one byte a token (so that characters span tokens)."""
from jaxrl_moe.engine.stopping import stop_cut


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
