"""Memory, traffic and time of a run before it is launched: its real programs, compiled for devices that need
not be there.

Nothing is allocated: parameters are shapes with shardings. The update is compiled for one micro-batch, the
engine for all slots. Compiled for the GPUs of the run (planning/target.py), bytes are what its own compiler
asks for. Derived on a CPU they are an estimate: XLA's CPU backend computes bfloat16 products in float32, and
what this adds to the temporaries stands apart (planning/buffers.py), as does what the layers must keep for
the backward pass anywhere; and another compiler makes other temporaries.
"""
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_moe.config import Config
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.learning import make
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.planning.drawing import NO_DRAWING, compiled_drawing, pool
from jaxrl_moe.planning.programs import NOTHING, Program
from jaxrl_moe.planning.shapes import RunShapes, run_shapes
from jaxrl_moe.planning.update import Update, compiled_update, micro_batch_shapes
from jaxrl_moe.runs.flops import update_flops


@dataclasses.dataclass(frozen=True)
class Plan:
    """Per device, in bytes unless said otherwise.

    Attributes:
      frozen, trained, optimiser, gradient: weights that stay, arrays that are trained (float32), their
        moments, their gradient.
      published: the weights as the engine reads them, where they are not the trained arrays themselves.
      reference: the weights that the run starts from, kept in full fine-tuning with a KL term.
      offload: which of "optimizer" and "reference" lie in the host's memory between uses.
      kept: what the backward pass needs of the layers, at least, for one micro-batch.
      compiled_for: the GPU that the programs were compiled for, by its driver's name; empty where they were
        derived on a CPU.
      gradients, apply, forward: the programs of a micro-batch, of an optimiser step, and of the pass without
        gradient, if there is one.
      decode, prefill, copy_pages: those of drawing tokens in all slots, of the largest prefill, and of copies
        of pages.
      kv: the KV pool, released during updates.
      flops: of one micro-batch on all devices, model FLOPs; tokens: real tokens of it at most.
      active_bytes: weights that one decode step reads, when every expert is used.
      slots: sequences decoded at once; 0 where servers decode, of which nothing is planned.
      drawing: devices of the rollout, where it has its own; kv, decode and active_bytes are then of one of
        them, and all else is of a device that trains.
    """
    devices: int
    frozen: int
    trained: int
    optimiser: int
    gradient: int
    published: int
    reference: int
    offload: tuple[str, ...]
    kept: int
    compiled_for: str
    gradients: Program
    apply: Program
    forward: Program
    decode: Program
    prefill: Program
    copy_pages: Program
    kv: int
    flops: float
    tokens: int
    active_bytes: int
    slots: int
    drawing: int = 0

    @property
    def resident(self) -> int:
        """What lies on the device all the time."""
        return self.frozen + self.trained + self.published + self._there("optimizer") + self._there(
            "reference")

    @property
    def on_host(self) -> int:
        """What lies in the host's memory instead, for one device."""
        return self.optimiser + self.reference - self._there("optimizer") - self._there("reference")

    def _there(self, offloadable: str) -> int:
        sizes = {"optimizer": self.optimiser, "reference": self.reference}
        return 0 if offloadable in self.offload else sizes[offloadable]

    @property
    def floor(self) -> int:
        """Below this no backend can run the update."""
        return self.resident + self.gradient + self.kept

    def update_peak(self, elsewhere: bool = False) -> int:
        """Of the update; elsewhere: without what only a CPU needs."""
        # All moments are on the device while an optimiser step runs; a program compiled for a GPU counts
        # those that it fetches itself.
        streamed = 0 if self.compiled_for else self.optimiser - self._there("optimizer")
        step = self.gradient + max(extra(self.gradients, elsewhere), extra(self.apply, elsewhere) + streamed)
        return self.resident + max(step, extra(self.forward, elsewhere))

    def rollout_peak(self, elsewhere: bool = False) -> int:
        """While tokens are drawn, likewise."""
        weights = self.active_bytes if self.drawing else self.resident
        return weights + self.kv + max(
            extra(program, elsewhere) for program in (self.decode, self.prefill, self.copy_pages))


def extra(program: Program, elsewhere: bool) -> int:
    """What a program needs beside its arguments."""
    return program.results + (program.elsewhere if elsewhere else program.temporary)


def make_plan(config: Config, model_config: ModelConfig, memory: int | None = None,
              devices: Sequence[jax.Device] | None = None,
              platform: str = "gpu") -> Plan:
    """Compiles the programs of a run for the mesh of its config, or those of training and of rollout each for
    its own.

    Args:
      config: resolved; its meshes need as many devices as there are.
      model_config: of the model at model.path.
      memory: bytes of a device that the run can have, of which the KV pool takes what is left; None does not
        bound it.
      devices: those of the run, which need not be there (planning/target.py); None: this process's CPUs stand
        for them.
      platform: whose kernels are compiled; those of the CPUs that may stand for GPUs differ.
    """
    devices = jax.devices() if devices is None else devices
    shapes = run_shapes(config, model_config, devices, platform)
    updated = compiled_update(config, shapes)
    plan = _without_drawing(config, shapes, updated)
    if config.rollout.backend != "jax":
        return plan  # servers draw, on devices of their own
    taken = plan.active_bytes if plan.drawing else plan.resident
    drawn = compiled_drawing(config, shapes, None if memory is None else memory - taken)
    return dataclasses.replace(plan, **drawn.programs(), kv=local_bytes(drawn.cache),
                               slots=config.rollout.slots)


def counted_plan(config: Config, model_config: ModelConfig, devices: Sequence[jax.Device]) -> Plan:
    """As make_plan, and compiles nothing: arrays are counted, with a KV pool that has room for all slots, and
    programs, whose temporaries nobody knows then, take nothing."""
    shapes = run_shapes(config, model_config, devices)
    batch, _ = micro_batch_shapes(config, shapes.placement)
    plan = _without_drawing(config, shapes, Update(NOTHING, NOTHING, NOTHING, batch))
    return dataclasses.replace(plan, kv=local_bytes(pool(config, shapes, None)), slots=config.rollout.slots)


def _without_drawing(config: Config, shapes: RunShapes, updated: Update) -> Plan:
    placement = shapes.placement
    state = shapes.state
    batch = updated.batch
    draws_apart = config.rollout_mesh.apart
    device = placement.mesh.devices.flat[0]
    model = shapes.model
    return Plan(devices=placement.mesh.size, frozen=local_bytes(shapes.parts.frozen),
                trained=local_bytes(state.trainable), optimiser=local_bytes(state.opt_state),
                gradient=local_bytes(state.trainable),
                published=0 if draws_apart else copied_bytes(state.trainable, shapes.computed),
                reference=local_bytes(shapes.computed) if make.keeps_reference(config) else 0,
                offload=config.train.offload, kept=kept_bytes(model.config, batch, placement,
                                                              config.train.remat, model.dtype),
                compiled_for=device.device_kind if placement.platform == "gpu" else "",
                gradients=updated.gradients, apply=updated.apply, forward=updated.forward,
                **NO_DRAWING.programs(), kv=0, flops=update_flops(model.config, shapes.cost, [_full(batch)]),
                tokens=math.prod(batch.tokens_BT.shape), active_bytes=local_bytes(shapes.params), slots=0,
                drawing=shapes.drawn_at.mesh.size if draws_apart else 0)


def local_bytes(tree: Any) -> int:
    """Bytes of the arrays' parts on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree) if leaf.ndim)


def copied_bytes(masters: Any, computed: Any) -> int:
    """Bytes on one device of the arrays that are computed with in another type than they are trained in."""
    pairs = zip(jax.tree.leaves(masters), jax.tree.leaves(computed), strict=True)
    return local_bytes([copy for master, copy in pairs if master.dtype != copy.dtype])


def kept_bytes(config: ModelConfig, batch: Any, placement: Placement, remat: str, dtype: Any) -> int:
    """At least what the backward pass needs: each layer's input under full remat; otherwise also what the
    mixers keep (queries, keys, values, the attention's output) and the normed inputs; and without remat the
    MLP's two hidden products."""
    tokens = math.prod(batch.tokens_BT.shape) // (placement.row_shards * placement.token_shards)
    numbers = config.hidden_size * config.num_layers
    if remat != "full":
        kept = family_of(config).kept(config)
        split = kept.mixers + (kept.mlps if remat == "none" else 0)
        numbers = 3 * numbers + split // placement.layout.size("tensor")
    return tokens * numbers * jnp.dtype(dtype).itemsize


def _full(batch: Any):
    """A micro-batch of whole rows, for counting."""
    rows, length = batch.tokens_BT.shape
    ones = {name: np.ones((rows, length), np.int32) for name in ("segments_BT", "mask_BT")}
    return dataclasses.replace(batch, **ones, positions_BT=np.broadcast_to(np.arange(length), (rows, length)))
