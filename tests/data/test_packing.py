import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl_moe.data.packing import bucket, layout, pack
from jaxrl_moe.kernels.paired_attention import LARGEST_BLOCK, block_count

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=60)


def test_buckets_are_powers_of_two_and_three_halves_of_them():
    assert [bucket(n) for n in range(1, 18)] == [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16, 16, 16, 16, 24]
    assert bucket(1025) == 1536


@given(st.integers(1, 10**6))
def test_a_bucket_wastes_less_than_half(n):
    assert n <= bucket(n) < 1.5 * n or n < 3 and bucket(n) == n


def test_packing_is_first_fit_decreasing():
    assert pack([3, 7, 2, 5, 3], 10) == [[1, 0], [3, 4, 2]]
    assert pack([4, 4, 4], 4) == [[0], [1], [2]]


@given(LENGTHS)
def test_packing_holds_every_sequence_once_within_the_row(lengths):
    rows = pack(lengths, 64)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert max(sum(lengths[i] for i in row) for row in rows) <= 64
    assert pack(lengths, 64) == rows


@given(LENGTHS)
def test_packing_needs_at_most_twice_the_least_rows(lengths):
    assert len(pack(lengths, 64)) <= 2 * -(-sum(lengths) // 64)


def test_a_sequence_longer_than_the_row_is_refused():
    with pytest.raises(ValueError, match="sequence 1 has 9 tokens"):
        pack([3, 9], 8)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("longest, tokens, parts", [(4000, 1 << 14, 6), (9000, 9222, 4), (4000, 4096, 6),
                                                    (30, 40, 4), (2731, 1 << 13, 14), (100_000, 100_000, 8),
                                                    (100_000, 1 << 20, 8)])
def test_rows_that_devices_share_are_cut_into_large_blocks(packed, longest, tokens, parts):
    [(_, (rows, width))] = layout([longest, 7], tokens, packed, shards=(1, parts))[:1]
    assert width % parts == 0 and longest <= width and rows * width <= tokens
    chunk = width // parts
    assert chunk // block_count(chunk) >= min(chunk, LARGEST_BLOCK // 2)
    assert width <= 1.07 * bucket(longest) + parts
