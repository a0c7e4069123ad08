"""How large the KV pool becomes, by settings and by what the device has free."""
import types

import jax
import pytest

from jaxrl_moe.config import ConfigError, RolloutSection
from jaxrl_moe.engine import memory
from jaxrl_moe.hosts import hosts

# longest 20 + 12 tokens: 8 pages
SETTINGS = RolloutSection(slots=4, page_size=4, max_tokens=12, memory_fraction=0.5)
WANTED = 1 + 4 * 8 + 5
PAGE = 4 * 100  # bytes, at 100 bytes a token


def pages(free, **changes):
    return memory.pool_pages(RolloutSection(**(vars(SETTINGS) | changes)), 20, 100, free)


def device(stats, platform="gpu"):
    return types.SimpleNamespace(memory_stats=lambda: stats, platform=platform)


@pytest.mark.parametrize("free", [None, 2 * WANTED * PAGE, 10**12])
def test_with_memory_enough_every_slot_can_hold_the_longest_sequence(free):
    assert pages(free) == WANTED


@pytest.mark.parametrize("room", [10, 11, 30, WANTED - 1])
def test_with_less_the_pool_takes_its_share_of_what_is_free_and_not_a_page_more(room):
    assert pages(2 * room * PAGE) == pages(2 * room * PAGE + 2 * PAGE - 1) == room
    assert pages(room * PAGE, memory_fraction=1.0) == room


def test_a_pool_that_was_asked_for_is_not_bounded():
    assert pages(0, kv_tokens=41) == 1 + 11


@pytest.mark.parametrize("free", [2 * 10 * PAGE - 1, 0, -5])
def test_a_pool_too_small_for_one_sequence_is_refused_with_the_numbers(free):
    with pytest.raises(
            ConfigError, match=
            r"= 32 tokens at 100 bytes a token take 4,000 bytes.*of the [\d,]+ bytes.*Lower data.max_prompt"):
        pages(free)


def test_free_memory_is_the_limit_less_what_is_in_use_or_what_the_machine_can_give(tmp_path, monkeypatch):
    assert memory.free_bytes(device({
        "bytes_limit": 1000,
        "bytes_in_use": 300,
        "peak_bytes_in_use": 900
    })) == 700
    assert memory.free_bytes(device({"bytes_in_use": 300})) is None and memory.free_bytes(
        device(None)) is None
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")
    assert memory.free_bytes(device(None, "cpu")) is None
    (tmp_path / "meminfo").write_text("MemTotal:       16 kB\nMemFree:         1 kB\nMemAvailable:    7 kB\n")
    monkeypatch.setattr(jax, "local_device_count", {"cpu": 4}.__getitem__)
    # all of them together have what the machine has
    assert memory.free_bytes(jax.devices("cpu")[0]) == 7 * 1024 // 4
    monkeypatch.setattr(hosts, "processes_here", lambda: 2)
    assert memory.free_bytes(jax.devices("cpu")[0]) == 7 * 1024 // 8


def test_the_engine_bounds_its_pool_by_the_free_memory_and_tells_how_many_tokens_it_holds(
        make_engine, monkeypatch):
    token = 2 * 2 * 2 * 8 * 4  # keys and values x layers x heads x width x bytes
    monkeypatch.setattr(memory, "free_bytes", lambda device: 12 * 4 * token)
    small = make_engine(memory_fraction=1.0)
    assert small.kv_bytes == 12 * 4 * token and small.stats()["kv_tokens"] == 11 * 4
    assert make_engine(kv_tokens=101).stats()["kv_tokens"] == 104
    with pytest.raises(ConfigError, match="KV pool"):
        make_engine(memory_fraction=0.8)
