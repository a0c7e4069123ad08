"""A rollout buffer's file: groups are finished by their size or their time-out, handed out once, and kept
through whatever ends the server."""
import collections
import concurrent.futures
import json
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_moe.outside import OutsideError
from jaxrl_moe.serving.buffer import groups
from jaxrl_moe.serving.buffer.groups import NoSize, Rules
from jaxrl_moe.serving.buffer.items import read_item
from jaxrl_moe.serving.buffer.store import Store, WrittenBefore
from jaxrl_moe.types import UserError
from tests.helpers.buffers import item, written


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock):
    """Opens stores of the same file, one after the other."""
    held = []

    def open_anew(**rules):
        for store in held:
            store.close()
        held[:] = [Store(str(tmp_path / "buffer.sqlite"), Rules(**{"size": 2, **rules}), clock)]
        return held[0]
    yield open_anew
    for store in held:
        store.close()


def uids(taken):
    return [each["uid"] for each in taken.items]


def test_a_group_is_finished_at_its_size_and_handed_out_once(opened):
    store = opened(size=3)
    for uid, instance in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
        store.write(item(uid, instance))
    assert not store.take().items
    store.write(item("e", 2))
    taken = store.take()
    assert (uids(taken), taken.groups) == (["b", "d", "e"], [2])
    assert not store.take().items and store.stats()["groups_open"] == 1


def test_what_is_written_beyond_a_groups_size_begins_the_next_group_of_the_same_problem(opened):
    store = opened()
    for uid in "abcde":
        store.write(item(uid))
    taken = store.take()
    assert uids(taken) == ["a", "b", "c", "d"] and taken.groups == [0, 0]
    store.write(item("f"))
    assert uids(store.take()) == ["e", "f"]


def test_instances_are_told_apart_by_value_and_type(opened):
    store = opened()
    for uid, instance in (("a", 3), ("b", "3"), ("c", "3")):
        store.write(item(uid, instance))
    assert store.take().groups == ["3"] and store.stats()["groups_open"] == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), max_size=60), st.integers(1, 4), st.data())
def test_groups_in_any_order_come_out_whole_and_once(tmp_path_factory, events, size, data):
    """Against a model in lists: each event writes to an instance, and sometimes somebody reads."""
    store = Store(str(tmp_path_factory.mktemp("b") / "b.sqlite"), Rules(size))
    waiting = collections.defaultdict(list)
    ready = []
    try:
        for number, (instance, repeats) in enumerate(events):
            for _ in range(repeats):  # a repeat changes nothing
                store.write(item(number, instance))
            waiting[instance].append(str(number))
            if len(waiting[instance]) == size:
                ready.append(waiting.pop(instance))
            if data.draw(st.booleans()):
                least = data.draw(st.sampled_from([-1, 1, 2, 7]))
                expected = []
                while ready and (least < 0 or len(expected) < least):
                    expected += ready.pop(0)
                assert uids(store.take(least)) == expected
        assert store.stats()["total_written"] == len(events)
    finally:
        store.close()


def test_the_same_uid_written_again_is_one_item_even_after_it_was_handed_out(opened):
    store = opened()
    assert store.write(item("a")) and not store.write(item("a"))
    store.write(item("b"))
    assert uids(store.take()) == ["a", "b"]
    assert not store.write(item("a")) and store.stats()["groups_open"] == 0
    reordered = dict(reversed(written("a").items()))
    assert not store.write(read_item(reordered))
    with pytest.raises(WrittenBefore, match='The uid "a" is that of another item'):
        store.write(item("a", reward=2.0))


@pytest.mark.parametrize("size, count, accepted", [(10, 7, True), (10, 6, False), (4, 3, True), (4, 2, False),
                                                   (30, 21, True), (3, 2, False)])
def test_after_its_time_a_group_with_enough_is_accepted_and_another_one_dropped(opened, clock, size, count,
                                                                                accepted):
    store = opened(size=size)
    for uid in range(count):
        clock.now += 299.0  # each item gives the group its whole time again
        store.write(item(uid, 5))
    clock.now += 300.0
    assert store.ready() == 0
    clock.now += 0.5
    assert store.ready() == (count if accepted else 0)
    stats = store.stats()
    assert (stats["groups_timed_out"], stats["groups_dropped"]) == (1, int(not accepted))
    assert len(store.take().items) == (count if accepted else 0)


def test_a_dropped_group_is_told_once_with_the_next_ones(opened, clock):
    store = opened()
    store.write(item("late", 1))
    clock.now += 301
    for uid in "abcd":
        store.write(item(uid, 2))
    assert store.take(1).dropped == [1] and store.take(1).dropped == []
    assert not store.write(item("late", 1))  # known, and still dropped


def test_a_server_that_was_away_gives_open_groups_their_time_again(opened, clock):
    opened().write(item("a"))
    clock.now += 10_000  # of a machine that was off
    store = opened()
    store.write(item("b"))
    assert uids(store.take()) == ["a", "b"]


def test_what_was_handed_out_stays_so_through_a_restart(opened):
    store = opened()
    for uid in "abcdef":
        store.write(item(uid, int(uid in "cd")))
    assert uids(store.take(2)) == ["a", "b"]
    store = opened()
    assert uids(store.take(2)) == ["c", "d"] and uids(store.take()) == ["e", "f"] and not store.take().items


def test_rewards_of_any_size_pass_as_they_were_written(opened):
    rewards = [2.3, -7, 0.0, 1e308, 1e308, 10**300]
    store = opened()
    for uid, reward in enumerate(rewards):
        store.write(item(uid, reward=reward))
    stats = store.stats()
    assert [each["reward"] for each in store.take().items] == rewards
    assert stats["filtered"] == 0 and stats["mean_reward"] is None  # their sum is beyond a float


def test_the_mean_is_that_of_all_rewards(opened):
    store = opened()
    for uid, reward in enumerate([2.3, 0.1, 0.3]):
        store.write(item(uid, reward=reward))
    assert store.stats()["mean_reward"] == pytest.approx(0.9)


def test_nothing_is_handed_out_where_there_is_less_than_was_asked_for(opened):
    store = opened()
    for uid in "abc":
        store.write(item(uid))
    assert not store.take(3, whole=True).items and len(store.take(2, whole=True).items) == 2


def test_peeking_hands_nothing_out(opened):
    store = opened()
    for uid in "abcd":
        store.write(item(uid))
    assert [each["uid"] for each in store.peek(3)] == ["a", "b", "c"] and len(store.take().items) == 4


def test_an_answer_holds_whole_groups_up_to_a_size(opened, monkeypatch):
    monkeypatch.setattr(groups, "MOST_BYTES", 4 * len(item("a").body))
    store = opened()
    for uid in "abcdef":
        store.write(item(uid))
    assert uids(store.take()) == ["a", "b", "c", "d"]
    assert uids(store.take()) == ["e", "f"]


def test_of_old_groups_the_conversations_are_left_out_and_the_uids_stay(opened, tmp_path):
    store = opened(keep=1)
    for uid in "abcd":
        store.write(item(uid))
        store.take()
    bodies = sqlite3.connect(tmp_path / "buffer.sqlite").execute("SELECT body FROM items").fetchall()
    assert [bool(body) for body, in bodies] == [False, False, True, True]
    assert not store.write(item("a")) and store.stats()["total_read"] == 4


def test_without_a_size_nothing_is_written_until_it_is_told_and_it_is_kept(opened):
    store = opened(size=0)
    with pytest.raises(NoSize, match="--group_size=N, or POST /start_rollout"):
        store.write(item("a"))
    store.set_size(1)
    store = opened(size=0)
    store.write(item("a"))
    assert uids(store.take()) == ["a"]
    with pytest.raises(UserError, match="Groups of 3 were asked for, and this server was started with"):
        opened(size=2).set_size(3)


def test_groups_keep_the_size_that_they_began_with(opened):
    opened(size=3).write(item("a"))
    store = opened(size=2)
    store.write(item("b"))
    assert not store.take().items
    store.write(item("c"))
    assert len(store.take().items) == 3


def test_writers_and_readers_at_once_lose_nothing_and_get_nothing_twice(opened):
    store = opened(size=3)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        writes = [threads.submit(store.write, item(number % 90, number % 10)) for number in range(180)]
        reads = [threads.submit(store.take, 4) for _ in range(40)]
    assert sum(write.result() for write in writes) == 90
    taken = [uid for read in reads for uid in uids(read.result())] + uids(store.take())
    assert sorted(taken, key=int) == [str(number) for number in range(90)]


def test_a_file_has_one_server(opened, tmp_path):
    opened()
    with pytest.raises(UserError, match="Another server has the buffer"):
        Store(str(tmp_path / "buffer.sqlite"), Rules())


def test_anothers_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE songs (title)")
    before = path.read_bytes()
    with pytest.raises(UserError, match="a database of another kind"):
        Store(str(path), Rules())
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises(UserError, match="not a database"):
        Store(str(tmp_path / "text"), Rules())
    assert path.read_bytes() == before


REFUSED = [({"uid": ""}, "uid has 0 characters"), ({"uid": 3}, "uid is 3"), ({"uid": "u" * 401},
                                                                             "401 characters"),
           ({"instance_id": True}, "instance_id is true"), ({"instance_id": None}, "instance_id is null"),
           ({"instance_id": 1.0}, "a text or an integer is needed"), ({"messages": []}, "messages is a list "
                                                                                        "of 0"),
           ({"messages": ["hi"]}, "messages.0 holds a string"), ({"messages": [{}]},
                                                                 "messages.0 has no role"),
           ({"reward": "1"}, 'reward is "1"'), ({"reward": True}, "reward is true"),
           ({"reward": 10**400}, "finite number"), ({"reward": None}, "has no reward"),
           ({"extra_info": []}, "extra_info is []"), ({"extra_info": None}, "has no extra_info")]


@pytest.mark.parametrize("fields, message", REFUSED)
def test_what_is_no_item_is_refused_by_its_field(fields, message):
    with pytest.raises(OutsideError) as refused:
        read_item(written("a") | fields)
    assert message in str(refused.value)


def test_further_fields_and_odd_characters_are_kept(opened):
    odd = written("\ud800\0", "\udc00", multi_turn_data={"gamma": 0.4}, extra_info={"\ud800": "\x00"})
    store = opened(size=1)
    store.write(read_item(odd))
    assert json.loads(json.dumps(store.take().items)) == [odd]
