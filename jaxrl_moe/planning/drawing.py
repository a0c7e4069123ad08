"""The engine's programs, compiled for devices that need not be there; parameters are shapes with shardings."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding

from jaxrl_moe.config import Config
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.planning.programs import NOTHING, Program, compiled
from jaxrl_moe.rollout import batches
from jaxrl_moe.rollout.memory import pool_pages, slots_of_each, token_bytes
from jaxrl_moe.rollout.pages import pages_for
from jaxrl_moe.rollout.programs import POOL, ROWS, Programs


class Drawing(NamedTuple):
    """The programs of the in-process engine: a decode call of all slots, the largest prefill, copies of pages; and the KV pool's shapes."""
    decode: Program
    prefill: Program
    copy_pages: Program
    cache: Any

    def programs(self) -> dict[str, Program]:
        """By their names."""
        return {name: program for name, program in self._asdict().items() if name != "cache"}


NO_DRAWING = Drawing(NOTHING, NOTHING, NOTHING, ())  # servers draw


def drawing(config: Config, place: Placement, model: Transformer, params: Any, free: int | None) -> Drawing:
    """Compiles them.

    Args:
      model: abstract; params: its arrays as the model computes with them, as shapes with shardings.
      free: bytes that the KV pool may share, as rollout.memory.free_bytes gives; None does not bound it.
    """
    cache = pool(config, place, model, free)
    lowered = lower(config, place, model, params, cache)
    return Drawing(**{name: compiled(program, place.platform) for name, program in lowered.items()}, cache=cache)


def pool(config: Config, place: Placement, model: Transformer, free: int | None) -> PagedCache:
    """The KV pool's shapes."""
    section, shards = config.rollout, place.drawn_shards
    pages = pool_pages(section, config.data.max_prompt_tokens, token_bytes(model.config, model.dtype, place), free, shards)
    cache = jax.eval_shape(lambda: PagedCache.zeros(model.config, pages * shards, section.page_size, model.dtype))
    return _split(cache, place, POOL)


def lower(config: Config, place: Placement, model: Transformer, params: Any, cache: PagedCache) -> dict:
    """{name: the program, traced for the devices of the mesh}: see Drawing."""
    section, shards = config.rollout, place.drawn_shards
    programs = Programs(nnx.split(model)[0], config.seed, section.decode_steps, model.config.expert_dtype, place)
    slots = slots_of_each(section.slots, shards)
    longest = config.data.max_prompt_tokens + section.max_tokens - 1
    *_, rows = batches.decode_shapes(slots, pages_for(longest, section.page_size), section.page_size, shards)
    shapes = batches.prefill_shapes(config.data.max_prompt_tokens, slots, section.page_size, shards)
    prefill = max(shapes, key=lambda shape: (shape.tokens_UT.size, shape.pages_UJ.size))
    copies = jax.ShapeDtypeStruct((slots * shards,), jnp.int32)
    rows, prefill, copies = (_split(work, place, ROWS) for work in (rows, prefill[1:], (copies, copies)))
    return {"decode": programs.decode.lower(params, cache, rows, truncate=False, routes=False),
            "prefill": programs.prefill.lower(params, cache, *prefill, routes=False),
            "copy_pages": programs.copy_pages.lower(cache, *copies)}


def _split(tree: Any, place: Placement, spec: jax.sharding.PartitionSpec) -> Any:
    sharding = NamedSharding(place.mesh, spec)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
