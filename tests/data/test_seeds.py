"""Rows that are named by numbers: which they are, and what is no list of them."""
import pytest

from jaxrl_moe.data import seeds
from jaxrl_moe.data.rows import DataError
from jaxrl_moe.data.seeds import seed_rows, seeds_of


@pytest.mark.parametrize("text, numbers", [
    ("0-4", [0, 1, 2, 3, 4]), ("3,5,8-10", [3, 5, 8, 9, 10]), (" 7 , 2 ", [7, 2]), ("9-9", [9]),
    ("2147483647", [2**31 - 1]), ("8-10,3", [8, 9, 10, 3])])
def test_numbers_and_ranges_are_taken_in_their_order(text, numbers):
    assert seeds_of(text) == numbers


@pytest.mark.parametrize("text, message", [
    ("", "'' is no number"), ("3-", "'3-' is no number"), ("-3", "'-3' is no number"),
    ("a", "'a' is no number"),
    ("3,,4", "'' is no number"), ("1.5", "'1.5' is no number"), ("5-3", "'5-3' is no range"),
    ("2147483648", "are from 0 to 2147483647"), ("0-99999999999", "is no number"), ("٣", "is no number"),
    ("3,3", "names the seed 3 twice"), ("0-9,5-12", "names the seed 5 twice"), ("7,0-9", "names the seed 7")])
def test_what_is_no_list_of_seeds_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        seeds_of(text)


def test_too_many_are_refused_before_they_are_made(monkeypatch):
    with pytest.raises(DataError, match="names 2147483648 seeds, which is more than 10000000"):
        seeds_of("0-2147483647")
    monkeypatch.setattr(seeds, "MOST_SEEDS", 3)
    assert len(seeds_of("0-2")) == 3
    with pytest.raises(DataError, match="more than 3"):
        seeds_of("0-1,2-3")


def test_each_is_a_row_with_a_prompt():
    rows = seed_rows("17,4")
    assert [row.values for row in rows] == [{"prompt": "Task 17.", "seed": 17},
                                            {"prompt": "Task 4.", "seed": 4}]
    assert [(row.index, row.where) for row in rows] == [(0, "seed 17"), (1, "seed 4")]
