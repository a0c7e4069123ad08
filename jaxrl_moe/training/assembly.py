"""What a run is put together from: the data and model on disk, tokenizer and prompts, policy, optimiser and
engine."""
import dataclasses
import warnings

from flax import nnx

from jaxrl_moe.checks import data as data_checks
from jaxrl_moe.checks.problems import refuse
from jaxrl_moe.checks.sections.learner import warn_of_router
from jaxrl_moe.checks.start import Start
from jaxrl_moe.config import Config
from jaxrl_moe.data.chat.turn_bridge import TurnBridge
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.distributed.placements import placement, rollout_placement
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning import make
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.phases import longest_prompt, longest_rollout
from jaxrl_moe.protocols import Bridge, Engine, Task
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.timeouts import Timeouts
from jaxrl_moe.runs.scratch import ensure_data, ensure_model
from jaxrl_moe.types import Messages, Prompt


@dataclasses.dataclass(frozen=True)
class Data:
    """A run's tokenizer, and its prompts under it."""
    tokenizer: Tokenizer
    prompts: list[Prompt]
    eval_prompts: list[Prompt]


def prepare(start: Start) -> Data:
    """Makes the data and the model that are to be made on the spot, since nothing speaks against the run by
    now; then the tokenizer and the prompts (if nothing is trained by RL, only the held-out ones). Prints how
    many were left out.

    Where there are several processes, process 0 makes and downloads, and the others find it.

    Raises:
      ConfigError: rows that could not be looked at before, as there was no tokenizer, cannot be used.
    """
    unseen = start.makes_model or start.makes_data
    if not start.given:
        hosts.leader_first(lambda: _make_scratch(start))
    hosts.on_leader(lambda: refuse([*data_checks.tokenizer_problems(start), *data_checks.problems(start)]
                                   if unseen else []))
    prompts = start.prompts if start.rl else ([], None)
    held_out = start.held_out if start.config.data.eval_source else ([], None)
    for counts in filter(None, (prompts[1], held_out[1])):
        print(counts)
    for remark in data_checks.remarks(start):
        warnings.warn(remark, stacklevel=2)
    return Data(start.tokenizer, prompts[0], held_out[0])


def _make_scratch(start: Start) -> None:
    conversations = start.reads_conversations  # asked before what it depends on is made
    ensure_data(start.config)
    ensure_model(start.config, start.bridge, conversations=conversations)


def build(config: Config, bridge: Bridge, tokenizer: Tokenizer,
          optimiser_steps: int) -> tuple[Learner, Engine]:
    """The policy with its optimiser, and an engine: over the same arrays, or over servers that get them by
    publish."""
    model = load(config, bridge, make.lora_config(config))
    warn_of_router(config, model.config)
    kind = find_advantage(config.algorithm.advantage).critic
    head = bridge.load_critic(config.critic.path).head if kind and config.critic.path else None
    learner = make.make_learner(config, model, optimiser_steps, head)
    if config.rollout.backend != "jax":
        return learner, bridge.make_engine(config, learner.model(), tokenizer, learner.placement)
    # last: its pool takes what the optimiser leaves free
    return learner, make_engine(config, learner.model(), tokenizer)


def load(config: Config, bridge: Bridge, lora: LoraConfig | None) -> Transformer:
    """The model of the model section, with adapters if any, on the mesh of the mesh section."""
    trained_at = placement(config, bridge.model_config(config.model.path))
    return bridge.load_model(config.model.path, lora=lora, dtype=config.model.dtype or None, seed=config.seed,
                             attention=config.model.attention, grouped_matmul=config.model.grouped_matmul,
                             placement=trained_at)


def make_episodes(config: Config, task: Task, tokenizer: Tokenizer,
                  timeouts: Timeouts | None = None, sessions: AgentSessions | None = None) -> Episodes:
    """How the run's episodes are played; `sessions` are those of agents, if they play them."""
    def talk(prompt: Prompt, tools: Messages) -> TurnBridge:
        return TurnBridge(tokenizer, variables=prompt.variables, tools=tools, history=config.episodes.history)

    return Episodes(task, tokenizer.decode, config.seed, config.rollout.graders, config.episodes, talk,
                    longest_rollout(config), timeouts, sessions)


def make_engine(config: Config, model: Transformer, tokenizer: Tokenizer) -> JaxEngine:
    """An engine over the model's own arrays, laid out on the mesh if they are not yet; where rollout has
    devices of its own, over copies there."""
    drawn_at = rollout_placement(config, model.config)
    if drawn_at is not None and not config.rollout_mesh.apart:
        nnx.update(model, drawn_at.put(nnx.state(model)))
    return JaxEngine(model, config.rollout, max_prompt_tokens=longest_prompt(config), seed=config.seed,
                     eos_ids=tokenizer.eos_ids, detokenise=tokenizer.decode, placement=drawn_at)
