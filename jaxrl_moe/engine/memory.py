"""How large the KV pool is: what the sequences can need at most, within what the device has free."""
import pathlib
import re
from typing import Any

import jax

from jaxrl_moe.config import ConfigError, RolloutSection
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.engine.pages import pages_for
from jaxrl_moe.hosts import hosts
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.phases import LONGEST, longest_sequence

MEMORY = pathlib.Path("/proc/meminfo")


def free_bytes(device: jax.Device) -> int | None:
    """Bytes that can still be allocated on a device; a CPU's is its share of the machine's, which all of its
    virtual devices, and the processes of the job that run there, take from. None where nobody keeps count."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    if device.platform != "cpu" or not MEMORY.exists():
        return None
    match = re.search(r"^MemAvailable: +(\d+) kB", MEMORY.read_text(), re.MULTILINE)
    return int(match[1]) * 1024 // (jax.local_device_count("cpu") * hosts.processes_here()) if match else None


def slots_of_each(slots: int, shards: int) -> int:
    """Slots of one of the parts that rows are split into, so that all together have at least so many."""
    return -(-slots // shards)


def token_bytes(config: ModelConfig, dtype: Any, placement: Placement | None) -> int:
    """Keys and values of one token in all layers, on one device."""
    parts = placement.layout.size("tensor") if placement else 1
    return family_of(config).cache().token_bytes(config, dtype.itemsize, parts)


def pool_pages(settings: RolloutSection, max_prompt_tokens: int, token_bytes: int, free: int | None,
               shards: int = 1) -> int:
    """Pages of the KV pool, the trash page included; of each of `shards` parts that the rows are split into.

    Args:
      settings: kv_tokens, of each part, decides alone if it is set. Otherwise every slot gets room for the
        longest sequence, and one prompt more is kept for samples that wait, all of it within memory_fraction
        of the free memory.
      max_prompt_tokens: of the longest prompt.
      token_bytes: keys and values of one token in all layers.
      free: bytes of one device, see free_bytes; None does not bound the pool.

    Raises:
      ConfigError: the longest sequence does not fit.
    """
    size = settings.page_size
    longest = longest_sequence(settings, max_prompt_tokens)
    if settings.kv_tokens:
        return 1 + pages_for(settings.kv_tokens, size)
    wanted = 1 + slots_of_each(settings.slots, shards) * pages_for(longest, size) + pages_for(
        max_prompt_tokens, size)
    if free is None:
        return wanted
    room = int(free * settings.memory_fraction) // (size * token_bytes)
    # the trash page, and a copy of the page in which prompt and completion meet
    least = 2 + pages_for(longest, size)
    if room < least:
        raise ConfigError(
            f"The KV pool cannot hold the longest sequence: {LONGEST} = {longest} "
            f"tokens at {token_bytes:,} bytes a token take {least * size * token_bytes:,} bytes in "
            f"pages of {size} tokens, but rollout.memory_fraction = {settings.memory_fraction} of the "
            f"{max(free, 0):,} bytes that the device has free is "
            f"{max(int(free * settings.memory_fraction), 0):,}. Lower data.max_prompt_tokens or "
            "rollout.max_tokens, raise rollout.memory_fraction, or take a smaller model or a device with "
            "more memory.")
    return min(wanted, room)
