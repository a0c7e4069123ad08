"""The programs of a run, compiled for devices that need not be there; parameters are shapes with shardings."""
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding

from jaxrl_moe.config import Config
from jaxrl_moe.data.packing import whole_batch
from jaxrl_moe.distributed.sharding import Placement, batch_spec
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.planning.buffers import temporaries
from jaxrl_moe.planning.hlo import collective_bytes
from jaxrl_moe.rollout import batches
from jaxrl_moe.rollout.memory import pool_pages, slots_of_each, token_bytes
from jaxrl_moe.rollout.pages import pages_for
from jaxrl_moe.rollout.programs import POOL, ROWS
from jaxrl_moe.rollout.programs import Programs as RolloutPrograms
from jaxrl_moe.training.batch import MicroBatch
from jaxrl_moe.training.objective import make_policy_objective
from jaxrl_moe.training.prepare import longest_drawn
from jaxrl_moe.training.programs import Programs
from jaxrl_moe.training.state import Parts, TrainState
from jaxrl_moe.training.step import READ_SHARES


class Program(NamedTuple):
    """What a compiled program takes of one device, in bytes.

    Attributes:
      arguments: arrays that it is given.
      results: arrays that it returns in memory of their own, not in that of donated arguments.
      temporary: the peak of its temporaries as compiled on CPU.
      elsewhere: at most what is left of them on a backend that computes in bfloat16, see planning/buffers.py.
      collectives: {kind: bytes} that its collectives move.
    """
    arguments: int
    results: int
    temporary: int
    elsewhere: int
    collectives: dict[str, int]

    @property
    def extra(self) -> int:
        """What it needs beside its arguments, as compiled on CPU."""
        return self.results + self.temporary


NOTHING = Program(0, 0, 0, 0, {})  # a program that does not run on these devices


def compiled(lowered) -> Program:
    """Compiles what jax.jit(...).lower gave."""
    done = lowered.compile()
    stats, found = done.memory_analysis(), temporaries(lowered, done)
    return Program(stats.argument_size_in_bytes, stats.output_size_in_bytes - stats.alias_size_in_bytes, found.compiled,
                   found.elsewhere, collective_bytes(done.as_text()))


class Update(NamedTuple):
    """The two programs of an update: gradients of a micro-batch, and the step that applies their sum."""
    gradients: Program
    apply: Program
    batch: MicroBatch


def update(config: Config, place: Placement, parts: Parts, state: TrainState, transform: Any, lora: bool) -> Update:
    """Compiles them for the largest micro-batch of a run.

    Args:
      config: resolved.
      place, parts, state: the mesh, and the model taken apart, as shapes.
      transform: the optimiser.
      lora: whether adapters are trained.
    """
    programs = Programs(parts, None, True, config.train.remat, lora, (transform, None), place)
    batch, read = micro_batch_shapes(config, place)
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    entropy = config.logging.entropy or config.algorithm.entropy_coef > 0
    inputs = ((state.trainable, None), state.router_bias, parts.frozen, batch, read, 1.0, None)
    total = jax.eval_shape(functools.partial(programs.micro_batch, objective=objective, entropy=entropy), *inputs)
    gradient = jax.tree.map(lambda leaf, like: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=like.sharding),
                            total.gradient, (state.trainable, None))
    total = total._replace(gradient=gradient)
    gradients = programs.gradients.lower(*inputs, total=total, objective=objective, entropy=entropy)
    apply = programs.apply.lower(state, total.gradient, total.loss, total.load, bias_rate=config.moe.bias_rate)
    return Update(compiled(gradients), compiled(apply), batch)


def micro_batch_shapes(config: Config, place: Placement):
    """(the largest micro-batch of a run, the indices of the log-probs to read), as shapes on the mesh."""
    length, rows = whole_batch(longest_drawn(config), config.train.tokens_per_micro_batch, place.shards)
    kinds = {name: jnp.int32 for name in ("tokens_BT", "positions_BT", "segments_BT", "targets_BT", "sequence_BT")}
    kinds |= {name: jnp.float32 for name in ("mask_BT", "weights_BT", "advantages_BT", "sampler_logprobs_BT")}
    algorithm = config.algorithm
    if algorithm.epochs * algorithm.minibatches > 1:
        kinds["old_logprobs_BT"] = jnp.float32
    if algorithm.kl_coef > 0:
        kinds["ref_logprobs_BT"] = jnp.float32

    def shape(name, dtype, *sizes):
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(place.mesh, batch_spec(name, None)))

    whole = {name: shape(name, jnp.float32) for name in ("num_tokens", "num_positions")}
    batch = MicroBatch(**{name: shape(name, dtype, rows, length) for name, dtype in kinds.items()}, **whole)
    b, c = place.row_shards, place.token_shards
    part = rows * length // (b * c)
    wanted = -(-part // READ_SHARES) * math.ceil(READ_SHARES * min(1.0, config.rollout.max_tokens / length))
    return batch, (shape("read_bcR", jnp.int32, b, c, wanted), shape("read_bcM", jnp.int32, b, c, part))


def decode(config: Config, place: Placement, model: Transformer, params: Any, free: int | None) -> tuple[Program, PagedCache]:
    """Compiles the decode step for all slots; also gives the KV pool's shapes.

    Args:
      model: abstract; params: its arrays as the model computes with them, as shapes with shardings.
      free: bytes that the KV pool may share, as rollout.memory.free_bytes gives; None does not bound it.
    """
    section, model_config = config.rollout, model.config
    programs = RolloutPrograms(nnx.split(model)[0], config.seed, section.decode_steps, model_config.expert_dtype, place)
    shards = place.drawn_shards
    pages = pool_pages(section, config.data.max_prompt_tokens, token_bytes(model_config, model.dtype, place), free, shards)
    split = NamedSharding(place.mesh, POOL)
    cache = jax.eval_shape(lambda: PagedCache.zeros(model_config, pages * shards, section.page_size, model.dtype))
    cache = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split), cache)
    longest = pages_for(config.data.max_prompt_tokens + section.max_tokens - 1, section.page_size)
    *_, rows = batches.decode_shapes(slots_of_each(section.slots, shards), longest, section.page_size, shards)
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(place.mesh, ROWS)), rows)
    return compiled(programs.decode.lower(params, cache, rows, truncate=False, routes=False)), cache
