"""What a run is put together from: the data and model on disk, tokenizer and prompts, policy, optimiser and engine."""
import dataclasses

from flax import nnx

from jaxrl_moe.checks import preflight, validate
from jaxrl_moe.config import Config
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.tokenizer import Tokenizer, load_tokenizer
from jaxrl_moe.distributed.placements import placement, rollout_placement
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.envs import check_rows
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning import make
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.protocols import Bridge, Engine, Task
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.runs.scratch import ensure_data, ensure_model
from jaxrl_moe.types import Prompt, UserError


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


def prepare(config: Config, bridge: Bridge, task: Task | None, *, training: bool = True) -> Data:
    """Reads the tokenizer and the prompts (if not training, only the held-out ones); prints how many were
    left out. The task, if there is one, is asked about every row."""
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
    if task is not None:
        hosts.on_leader(lambda: check_rows(task, [*prompts, *held_out]))
    return Data(tokenizer, prompts, held_out)


def build(config: Config, bridge: Bridge, tokenizer: Tokenizer, optimiser_steps: int) -> tuple[Learner, Engine]:
    """The policy with its optimiser, and an engine: over the same arrays, or over servers that get them by publish."""
    if config.rollout.max_staleness and hosts.several():
        raise UserError(f"rollout.max_staleness = {config.rollout.max_staleness} needs a trainer of one process, as what is drawn when "
                        "would differ between processes, and this job has several: set rollout.max_staleness=0, or train on the devices "
                        "of one host.")
    model = load(config, bridge, make.lora_config(config))
    validate.warn_of_router(config, model.config)
    kind = find_advantage(config.algorithm.advantage).critic
    head = bridge.load_critic(config.critic.path).head if kind and config.critic.path else None
    learner = make.make_learner(config, model, optimiser_steps, head)
    if config.rollout.backend != "jax":
        return learner, bridge.make_engine(config, learner.model(), tokenizer, learner.placement)
    return learner, make_engine(config, learner.model(), tokenizer)  # last: its pool takes what the optimiser leaves free


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
