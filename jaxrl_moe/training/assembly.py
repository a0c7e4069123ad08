"""What a run is put together from: the data and model on disk, tokenizer and prompts, policy, optimiser and engine."""
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

import jax
from flax import nnx

from jaxrl_moe.config import Config, MeshSection, RolloutMeshSection
from jaxrl_moe.config_checks import idle_exchange
from jaxrl_moe.data.packing import whole_batch
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.tokenizer import Tokenizer, load_tokenizer
from jaxrl_moe.distributed import hosts
from jaxrl_moe.distributed.collectives import AXES
from jaxrl_moe.distributed.expert_axis import check_transport, warn_of_gather
from jaxrl_moe.distributed.mesh import check_model, divided, make_placement
from jaxrl_moe.distributed.sharding import MeshError, Placement
from jaxrl_moe.envs import check_rows, make_env
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.model.value_head import Critic
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.rollout.engine import JaxEngine
from jaxrl_moe.training import preflight, validate
from jaxrl_moe.training.prepare import longest_drawn
from jaxrl_moe.training.scratch import ensure_data, ensure_model
from jaxrl_moe.training.sft import longest_conversation
from jaxrl_moe.training.state import ROUTER
from jaxrl_moe.training.step import Learner
from jaxrl_moe.types import Engine, Prompt, UserError


class Bridge(Protocol):
    """The functions of the `bridges` package that a run needs; this package must not import it."""

    def load_model(self, path, *, lora: LoraConfig | None, dtype, seed: int, attention: str,
                   grouped_matmul: str, placement: Placement | None) -> Transformer: ...
    def export_model(self, model, path, *, source=None, overwrite=False) -> pathlib.Path: ...
    def export_adapter(self, model, path, base, overwrite=False, critic=None) -> pathlib.Path: ...
    def export_critic(self, critic, path, base, overwrite=False) -> pathlib.Path: ...
    def load_critic(self, path) -> Critic: ...
    def model_config(self, path) -> ModelConfig: ...
    def check_tensors(self, path) -> None: ...
    def check_adapters(self, config: ModelConfig, lora: LoraConfig) -> None: ...
    def read_lora(self, path) -> LoraConfig: ...
    def import_adapter(self, model, path) -> None: ...
    def check_servers(self, config: Config, placement: Placement | None = None) -> str: ...
    def make_engine(self, config: Config, model: Transformer, tokenizer: Tokenizer, placement: Placement | None = None) -> Engine: ...


@dataclasses.dataclass(frozen=True)
class Data:
    """A run's tokenizer, and its prompts under it."""
    tokenizer: Tokenizer
    prompts: list[Prompt]
    eval_prompts: list[Prompt]


def make_scratch(config: Config, bridge: Bridge, *, draws: bool, sft: bool) -> None:
    """Makes the data and the model that are to be made on the spot, once nothing speaks against the run.

    Where there are several processes, process 0 makes and downloads, and the others find it.

    Raises:
      UserError: run_dir holds a run of another seed, or the model's context, its adapters, critic or routers do not fit.
    """
    hosts.leader_first(lambda: _make_scratch(config, bridge, draws, sft))


def _make_scratch(config: Config, bridge: Bridge, draws: bool, sft: bool) -> None:
    preflight.refuse_other_seed(config)
    preflight.check_context(config, preflight.context_length(config, bridge), draws=draws, sft=sft)
    ensure_data(config)
    ensure_model(config, bridge)
    preflight.check_adapters(config, bridge)
    preflight.check_critic(config, bridge)
    validate.check_router(config, bridge.model_config(config.model.path))


def prepare(config: Config, bridge: Bridge, *, training: bool = True) -> Data:
    """Reads the tokenizer and the prompts (if not training, only the held-out ones); prints how many were left out."""
    tokenizer, context = load_tokenizer(config.model.path), preflight.context_length(config, bridge)
    tokenizer.check_stop_strings(config.rollout.stop_strings)
    prompts, held_out = [], []
    if training:
        prompts, counts = load_prompts(config.data, tokenizer, context=context)
        print(counts)
    if config.data.eval_path:
        held_out, counts = load_prompts(config.data, tokenizer, evaluation=True, context=context)
        print(counts)
    held_out = held_out[:config.eval.prompts or None]
    if config.env.name:
        hosts.on_leader(lambda: check_rows(make_env(**dataclasses.asdict(config.env)), [*prompts, *held_out]))
    return Data(tokenizer, prompts, held_out)


def build(config: Config, bridge: Bridge, tokenizer: Tokenizer, optimiser_steps: int) -> tuple[Learner, Engine]:
    """The policy with its optimiser, and an engine: over the same arrays, or over servers that get them by publish."""
    if config.rollout.max_staleness and hosts.several():
        raise UserError(f"rollout.max_staleness = {config.rollout.max_staleness} needs a trainer of one process, as what is drawn when "
                        "would differ between processes, and this job has several: set rollout.max_staleness=0, or train on the devices "
                        "of one host.")
    model = load(config, bridge, preflight.lora_config(config))
    validate.warn_of_router(config, model.config)
    kind = find_advantage(config.algorithm.advantage).critic
    head = bridge.load_critic(config.critic.path).head if kind and config.critic.path else None
    learner = Learner(model, config.optimizer, optimiser_steps, remat=config.train.remat, seed=config.seed,
                      critic=config.critic if kind else None, value_head=head,
                      train_router=ROUTER[config.moe.router], bias_rate=config.moe.bias_rate,
                      placement=placement(config, model.config), reference=preflight.keeps_reference(config),
                      offload=config.train.offload)
    if config.rollout.backend != "jax":
        return learner, bridge.make_engine(config, learner.model(), tokenizer, learner.placement)
    return learner, make_engine(config, learner.model(), tokenizer)  # last: its pool takes what the optimiser leaves free


def placement(config: Config, model: ModelConfig | None) -> Placement | None:
    """The mesh of the mesh section, checked against a model unless that is None; None for a single device.

    Raises:
      MeshError: it does not fit the devices or the model.
    """
    if all(getattr(config.mesh, axis) == 1 for axis in AXES):
        if hosts.several():
            raise MeshError("The job has several processes, and the mesh section one device: set mesh.data=-1, or other axes, to use the "
                            "devices of all.")
        return None
    return mesh_of(config, model)


def check_micro_batches(config: Config, *, rl: bool, sft: bool) -> None:
    """Refuses micro-batches too small for a row of the longest sequence on each part of the training's mesh, before anything is drawn.

    Args:
      config: resolved.
      rl: whether rollouts will be trained on.
      sft: whether conversations will.

    Raises:
      MeshError: the mesh does not fit the devices.
      UserError: with the tokens that a micro-batch needs.
    """
    place = placement(config, None)
    for longest in (longest_drawn(config),) * rl + (longest_conversation(config),) * sft:
        whole_batch(longest, config.train.tokens_per_micro_batch, (1, 1) if place is None else place.shards)


def mesh_of(config: Config, model: ModelConfig | None, planned: Sequence[jax.Device] | None = None) -> Placement:
    """As placement, but a mesh of one where there is a single device. planned: devices that stand for those of the run; where they are
    CPUs, gather, which drops nothing either, takes the place of the ragged all-to-all, which XLA has for GPUs only."""
    sizes, devices = _sizes(config.mesh), planned
    if config.rollout_mesh.apart:
        devices, _ = divided(sizes, _rollout_sizes(config), planned)
    place = make_placement(sizes, devices, dispatch=config.mesh.dispatch, host_devices=config.mesh.host_devices,
                           transport="gather" if config.mesh.transport == "auto" else config.mesh.transport,
                           capacity_factor=config.mesh.capacity_factor)
    if place.layout.size("expert") == 1:  # so many only the devices say, where it is -1
        for problem in idle_exchange(config.mesh):
            raise MeshError(problem)
    check_transport(place.layout, place.platform if planned is None else "gpu", os.environ.get("XLA_FLAGS", ""))
    if planned is not None and place.platform == "cpu" and config.mesh.transport == "ragged":
        place = dataclasses.replace(place, layout=dataclasses.replace(place.layout, transport="gather"))
    if config.mesh.transport == "auto":
        warn_of_gather(place.layout)
    if model is not None:
        check_model(place.layout, model)
    return place


def rollout_placement(config: Config, model: ModelConfig | None, planned: Sequence[jax.Device] | None = None) -> Placement | None:
    """As placement, of the rollout: that of training, or that of the rollout_mesh section on the devices after training's.

    Args:
      planned: see mesh_of.

    Raises:
      MeshError: it does not fit the devices or the model, or the job has several processes, which can only share.
    """
    if not config.rollout_mesh.apart:
        return placement(config, model)
    if hosts.several():
        raise MeshError("rollout_mesh needs a job of one process, and this one has several: leave rollout_mesh out, so that rollout "
                        "shares the mesh of training.")
    sizes = _rollout_sizes(config)
    place = make_placement(sizes, divided(_sizes(config.mesh), sizes, planned)[1])
    if model is not None:
        check_model(place.layout, model, "rollout_mesh")
    return place


def _sizes(section: MeshSection) -> dict[str, int]:
    return {axis: getattr(section, axis) for axis in AXES}


def _rollout_sizes(config: Config) -> dict[str, int]:
    return {axis: size or 1 for axis, size in dataclasses.asdict(config.rollout_mesh).items()}


def drawing_alone(config: Config) -> Config:
    """The configuration where nothing is trained: the rollout's mesh, if it has its own, takes the first devices."""
    if not config.rollout_mesh.apart:
        return config
    return dataclasses.replace(config, mesh=MeshSection(**_rollout_sizes(config)), rollout_mesh=RolloutMeshSection())


def load(config: Config, bridge: Bridge, lora: LoraConfig | None) -> Transformer:
    """The model of the model section, with adapters if any, on the mesh of the mesh section."""
    place = placement(config, bridge.model_config(config.model.path))
    return bridge.load_model(config.model.path, lora=lora, dtype=config.model.dtype or None, seed=config.seed,
                             attention=config.model.attention, grouped_matmul=config.model.grouped_matmul, placement=place)


def make_engine(config: Config, model: Transformer, tokenizer: Tokenizer) -> JaxEngine:
    """An engine over the model's own arrays, laid out on the mesh if they are not yet; where rollout has devices of its own, over copies
    there."""
    place = rollout_placement(config, model.config)
    if place is not None and not config.rollout_mesh.apart:
        nnx.update(model, place.put(nnx.state(model)))
    return JaxEngine(model, config.rollout, max_prompt_tokens=config.data.max_prompt_tokens, seed=config.seed,
                     eos_ids=tokenizer.eos_ids, detokenise=tokenizer.decode, placement=place)
