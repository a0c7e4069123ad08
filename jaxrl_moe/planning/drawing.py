"""The engine's programs, compiled for devices that need not be there; parameters are shapes with
shardings."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding

from jaxrl_moe.config import Config
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.engine import batches
from jaxrl_moe.engine.memory import pool_pages, slots_of_each, token_bytes
from jaxrl_moe.engine.pages import pages_for
from jaxrl_moe.engine.programs import ROWS, EnginePrograms, pool_specs
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.phases import longest_rollout
from jaxrl_moe.planning import target
from jaxrl_moe.planning.programs import NOTHING, Program, compiled
from jaxrl_moe.planning.shapes import RunShapes


class Drawing(NamedTuple):
    """The programs of the in-process engine: a decode call of all slots, the largest prefill, copies of
    pages; and the KV pool's shapes."""
    decode: Program
    prefill: Program
    copy_pages: Program
    cache: Any

    def programs(self) -> dict[str, Program]:
        """By their names."""
        return {name: program for name, program in self._asdict().items() if name != "cache"}


NO_DRAWING = Drawing(NOTHING, NOTHING, NOTHING, ())  # servers draw


def compiled_drawing(config: Config, shapes: RunShapes, free: int | None) -> Drawing:
    """Compiles them.

    Args:
      free: bytes that the KV pool may share, as rollout.memory.free_bytes gives; None does not bound it.
    """
    cache = pool(config, shapes, free)
    lowered = lower(config, shapes, cache)
    return Drawing(**{
        name: compiled(program, shapes.drawn_at.platform) for name, program in lowered.items()
    }, cache=cache)


def pool(config: Config, shapes: RunShapes, free: int | None) -> Any:
    """The KV pool's shapes."""
    section = config.rollout
    placement = shapes.drawn_at
    model = shapes.model
    bytes_of_token = token_bytes(model.config, model.dtype, placement)
    pages = pool_pages(section, config.data.max_prompt_tokens, bytes_of_token, free, placement.drawn_shards)
    kind = family_of(model.config).cache()
    pages *= placement.drawn_shards
    cache = jax.eval_shape(lambda: kind.zeros(model.config, pages, section.page_size, model.dtype))
    return kind(*(_split(array, placement, spec)
                  for array, spec in zip(cache, pool_specs(kind), strict=True)))


def lower(config: Config, shapes: RunShapes, cache: Any) -> dict:
    """{name: the program, traced for the devices of the mesh}: see Drawing."""
    section = config.rollout
    placement = shapes.drawn_at
    model = shapes.model
    params = shapes.params
    shards = placement.drawn_shards
    programs = EnginePrograms(
        nnx.split(model)[0], config.seed, section.decode_steps, model.config.expert_dtype, placement)
    slots = slots_of_each(section.slots, shards)
    longest = longest_rollout(config) - 1
    *_, rows = batches.decode_shapes(slots, pages_for(longest, section.page_size), section.page_size, shards)
    calls = batches.prefill_shapes(config.data.max_prompt_tokens, slots, section.page_size, shards)
    prefill = max(calls, key=lambda call: (call.tokens_UT.size, call.pages_UJ.size))
    copies = jax.ShapeDtypeStruct((slots * shards,), jnp.int32)
    rows, prefill, copies = (_split(work, placement, ROWS) for work in (rows, prefill[1:], (copies, copies)))
    with target.tracing(placement.mesh.devices.flat[0]):
        return {"decode": programs.decode.lower(params, cache, rows, truncate=False, routes=False),
                "prefill": programs.prefill.lower(params, cache, *prefill, routes=False),
                "copy_pages": programs.copy_pages.lower(cache, *copies)}


def _split(tree: Any, placement: Placement, spec: jax.sharding.PartitionSpec) -> Any:
    sharding = NamedSharding(placement.mesh, spec)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
