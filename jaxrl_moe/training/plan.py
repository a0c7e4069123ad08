"""Memory, traffic and time of a run before it is launched: its real programs, compiled for devices that need not be there.

Nothing is allocated: parameters are shapes with shardings. The update is compiled for one micro-batch, decoding for all slots.
Compiled on a CPU, the figures are an estimate for a GPU: XLA's CPU backend computes bfloat16 products in float32, which shows in the
temporaries (`temporary`); what the layers must keep for the backward pass is counted apart from it (`kept`).
"""
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding

from jaxrl_moe.config import Config, ConfigError
from jaxrl_moe.data.packing import bucket
from jaxrl_moe.distributed.hlo import collective_bytes
from jaxrl_moe.distributed.sharding import Placement, batch_spec
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rollout import batches
from jaxrl_moe.rollout.memory import pool_pages, slots_of_each, token_bytes
from jaxrl_moe.rollout.pages import pages_for
from jaxrl_moe.rollout.programs import POOL, ROWS
from jaxrl_moe.rollout.programs import Programs as RolloutPrograms
from jaxrl_moe.training import preflight
from jaxrl_moe.training.assembly import mesh_of
from jaxrl_moe.training.batch import MicroBatch
from jaxrl_moe.training.flops import model_cost, update_flops
from jaxrl_moe.training.objective import make_policy_objective
from jaxrl_moe.training.optimizer import optimizer
from jaxrl_moe.training.programs import Programs
from jaxrl_moe.training.state import ROUTER, TrainState, take_apart
from jaxrl_moe.training.step import READ_SHARES


@dataclasses.dataclass(frozen=True)
class Plan:
    """Per device, in bytes unless said otherwise.

    Attributes:
      frozen, trained, optimiser, gradient: weights that stay, arrays that are trained (float32), their moments, their gradient.
      kept: what the backward pass needs of the layers, at least, for one micro-batch.
      temporary: the peak of temporaries of the compiled update.
      decode_temporary: of the compiled decode program.
      kv: the KV pool, released during updates.
      collectives: {kind: bytes} of one micro-batch's forward and backward pass; decode_collectives of one token of all slots.
      flops: of one micro-batch on all devices, model FLOPs; tokens: real tokens of it at most.
      active_bytes: weights that one decode step reads, when every expert is used.
      slots: sequences decoded at once; 0 where servers decode, of which nothing is planned.
    """
    devices: int
    frozen: int
    trained: int
    optimiser: int
    gradient: int
    kept: int
    temporary: int
    decode_temporary: int
    kv: int
    collectives: dict[str, int]
    decode_collectives: dict[str, int]
    flops: float
    tokens: int
    active_bytes: int
    slots: int

    @property
    def update_peak(self) -> int:
        return self.frozen + self.trained + self.optimiser + self.gradient + self.temporary

    @property
    def rollout_peak(self) -> int:
        return self.frozen + self.trained + self.optimiser + self.kv + self.decode_temporary


def make_plan(config: Config, model_config: ModelConfig, free: int | None = None) -> Plan:
    """Compiles the update and the decode step of a run for the mesh of its config.

    Args:
      config: resolved; its mesh needs as many (virtual) devices as JAX has.
      model_config: of the model at model.path.
      free: bytes that the KV pool may share, as rollout.memory.free_bytes gives; None does not bound it.
    """
    if config.rollout_mesh.apart:
        raise ConfigError("A plan is for one mesh that training and rollout share: leave rollout_mesh out, and plan each of the two meshes "
                          "by itself as mesh.")
    place, lora = mesh_of(config, model_config), preflight.lora_config(config)
    dtype = jnp.dtype(config.model.dtype or "bfloat16")
    backend = "padded" if config.model.grouped_matmul == "auto" else config.model.grouped_matmul  # what a GPU would use
    model = Transformer.abstract(model_config, lora=lora, dtype=dtype, attention=config.model.attention, grouped_matmul=backend)
    parts, trainable, biases = take_apart(model, ROUTER[config.moe.router])
    cost = model_cost(model_config, trainable, parts.frozen)
    parts = parts._replace(frozen=place.shapes(parts.frozen))
    trainable, biases = place.shapes(trainable), place.shapes(biases)
    transform = optimizer(config.optimizer, 100)
    opt_state = place.shapes(jax.eval_shape(transform.init, trainable))
    state = TrainState(trainable, opt_state, jax.ShapeDtypeStruct((), jnp.int32), biases)
    update, batch = _compiled_update(config, place, parts, state, transform, lora is not None)
    in_process = config.rollout.backend == "jax"  # else servers decode, on devices of their own
    decode, cache = _compiled_decode(config, place, model, parts, state, free) if in_process else (None, ())
    weights = sum(local_bytes(part) for part in (parts.frozen, trainable))
    real = dataclasses.replace(batch, **{name: np.ones(batch.tokens_BT.shape, np.int32) for name in ("segments_BT", "mask_BT")},
                               positions_BT=np.broadcast_to(np.arange(batch.tokens_BT.shape[1]), batch.tokens_BT.shape))
    return Plan(
        devices=place.mesh.size, frozen=local_bytes(parts.frozen), trained=local_bytes(trainable), optimiser=local_bytes(opt_state),
        gradient=local_bytes(trainable), kept=kept_bytes(model_config, batch, place, config.train.remat, dtype),
        temporary=update.memory_analysis().temp_size_in_bytes,
        decode_temporary=decode.memory_analysis().temp_size_in_bytes if decode else 0,
        kv=local_bytes(cache), collectives=collective_bytes(update.as_text()),
        decode_collectives=collective_bytes(decode.as_text()) if decode else {},
        flops=update_flops(model_config, cost, [real]), tokens=int(np.prod(batch.tokens_BT.shape)), active_bytes=weights,
        slots=config.rollout.slots if in_process else 0)


def local_bytes(tree) -> int:
    """Bytes of the arrays' parts on one device."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if leaf.ndim)


def kept_bytes(config: ModelConfig, batch, place: Placement, remat: str, dtype) -> int:
    """At least what the backward pass needs: each layer's input under full remat; without it also queries, keys, values, the
    attention's output, the normed inputs and the MLP's two hidden products."""
    tokens = math.prod(batch.tokens_BT.shape) // (place.row_shards * place.token_shards)
    numbers = config.hidden_size * config.num_layers
    if remat == "none":
        parts = place.layout.size("tensor")
        heads = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim * config.num_layers
        hidden = sum(2 * config.num_experts_per_tok * config.moe_intermediate_size if sparse else 2 * config.intermediate_size
                     for sparse in config.sparse_layers)
        numbers = 3 * numbers + (heads + hidden) // parts
    return tokens * numbers * jnp.dtype(dtype).itemsize


def _compiled_update(config, place, parts, state, transform, lora):
    programs = Programs(parts, None, True, config.train.remat, lora, (transform, None), place)
    batch, read = micro_batch_shapes(config, place)
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    entropy = config.logging.entropy or config.algorithm.entropy_coef > 0
    inputs = ((state.trainable, None), state.router_bias, parts.frozen, batch, read, 1.0, None)
    total = jax.eval_shape(functools.partial(programs.micro_batch, objective=objective, entropy=entropy), *inputs)
    gradient = jax.tree.map(lambda leaf, like: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=like.sharding),
                            total.gradient, (state.trainable, None))
    lowered = programs.gradients.lower(*inputs, total=total._replace(gradient=gradient), objective=objective, entropy=entropy)
    return lowered.compile(), batch


def micro_batch_shapes(config: Config, place: Placement):
    """(the largest micro-batch of a run, the indices of the log-probs to read), as shapes on the mesh."""
    longest = min(config.data.max_prompt_tokens + config.rollout.max_tokens, config.train.tokens_per_micro_batch)
    length = -(-bucket(longest) // place.shards[1]) * place.shards[1]
    rows = max(1, config.train.tokens_per_micro_batch // length // place.row_shards) * place.row_shards
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


def _compiled_decode(config, place, model, parts, state, free):
    section, model_config = config.rollout, model.config
    graphdef = nnx.split(model)[0]
    programs = RolloutPrograms(graphdef, config.seed, section.decode_steps, model_config.expert_dtype, place)
    shards = place.drawn_shards
    pages = pool_pages(section, config.data.max_prompt_tokens, token_bytes(model_config, model.dtype, place), free, shards)
    split = NamedSharding(place.mesh, POOL)
    cache = jax.eval_shape(lambda: PagedCache.zeros(model_config, pages * shards, section.page_size, model.dtype))
    cache = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split), cache)
    longest = pages_for(config.data.max_prompt_tokens + section.max_tokens - 1, section.page_size)
    *_, rows = batches.decode_shapes(slots_of_each(section.slots, shards), longest, section.page_size, shards)
    params = nnx.merge_state(_as_computed(state.trainable, parts.dtypes), state.router_bias, parts.frozen)
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(place.mesh, ROWS)), rows)
    return programs.decode.lower(params, cache, rows, truncate=False, routes=False).compile(), cache


def _as_computed(trainable, dtypes):
    return jax.tree.map(lambda leaf, dtype: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding), trainable, dtypes)
