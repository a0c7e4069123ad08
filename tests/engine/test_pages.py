"""The page pool and the shape buckets."""
import pytest

from jaxrl_moe.engine.pages import PagePool, pages_for, power_of_two, row_bucket


def test_the_pool_never_hands_out_the_trash_page_nor_a_page_twice():
    pool = PagePool(8)
    pages = pool.take(3) + pool.take(4)
    assert sorted(pages) == list(range(1, 8)) and pool.num_free == 0


def test_a_pool_that_is_too_empty_gives_nothing_and_keeps_what_it_has():
    pool = PagePool(4)
    assert pool.take(4) is None and pool.num_free == 3


def test_a_shared_page_is_free_only_when_its_last_holder_drops_it():
    pool = PagePool(3)
    pages = pool.take(2)
    pool.share(pages[:1])
    pool.drop(pages)
    assert pool.num_free == 1 and pool.num_used == 1
    pool.drop(pages[:1])
    assert pool.num_free == 2


def test_dropping_or_sharing_a_free_page_is_an_error():
    pool = PagePool(3)
    with pytest.raises(ValueError):
        pool.drop([1])
    with pytest.raises(ValueError):
        pool.share([1])


@pytest.mark.parametrize("slots", [1, 3, 4, 8, 64, 100])
def test_row_buckets_hold_what_they_must_and_are_few(slots):
    buckets = [row_bucket(n, slots) for n in range(1, slots + 1)]
    assert all(n <= bucket <= slots for n, bucket in enumerate(buckets, 1))
    assert len(set(buckets)) <= 4 and buckets == sorted(buckets)


def test_rounding_up():
    assert [power_of_two(n) for n in (0, 1, 2, 3, 4, 5, 1000)] == [1, 1, 2, 4, 4, 8, 1024]
    assert [pages_for(n, 4) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]
