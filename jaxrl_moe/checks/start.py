"""What is about to start: its configuration, and the files that it reads, each of them once."""
import collections
import copy
import dataclasses
import enum
import functools
import pathlib
from collections.abc import Iterator, Sequence

from jaxrl_moe.checks.problems import told
from jaxrl_moe.config import Config
from jaxrl_moe.data.prompts import PromptReport, load_prompts
from jaxrl_moe.data.rows import HUB_NAME
from jaxrl_moe.data.sft import Conversation, ConversationReport, load_conversations
from jaxrl_moe.data.tokenizer import Tokenizer, load_tokenizer
from jaxrl_moe.distributed.chips import default_dtype, platform_of
from jaxrl_moe.distributed.placements import drawing_alone
from jaxrl_moe.envs import make_task
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.families.registry import from_scratch
from jaxrl_moe.phases import NLL, has_warm_up, longest_conversation, longest_drawn, sft_config
from jaxrl_moe.protocols import Bridge, Task
from jaxrl_moe.runs import scratch
from jaxrl_moe.runs.checkpoints.resuming import settled
from jaxrl_moe.types import Prompt


class Job(enum.Enum):
    """What a script starts."""
    TRAIN = "train"
    SFT = "sft"
    EVALUATE = "evaluate"


@dataclasses.dataclass(frozen=True)
class Start:
    """What is about to start. Made by `training`, `fine_tuning` or `evaluation`.

    Attributes:
      job: what.
      recipe: the configuration as it was given.
      config: the configuration that the first phase is built from.
      bridge: reads models.
      given: the model is one that was named beside the recipe, and no model of the run's own.
      adapter: PEFT folder to lay over it; empty: none.
    """
    job: Job
    recipe: Config
    config: Config
    bridge: Bridge
    given: bool = False
    adapter: str = ""

    def settled(self) -> "Start":
        """The same with the defaults that depend on the machine as `run.settled` has them; what was read
        already stays read."""
        beside = (self.adapter, self.config.model.path * self.given)
        other = copy.copy(self)
        for field in ("recipe", "config"):
            object.__setattr__(other, field, settled(getattr(self, field), *beside))
        if other.config.model.dtype not in (self.config.model.dtype, default_dtype(platform_of())):
            print(f"model.dtype = {other.config.model.dtype}, as the run was begun with.")
        return other

    @property
    def rl(self) -> bool:
        """Whether there is an RL phase."""
        return self.job is Job.TRAIN

    @property
    def sft(self) -> bool:
        """Whether conversations are trained on."""
        return self.job is Job.SFT or (self.rl and has_warm_up(self.recipe))

    @property
    def reads_conversations(self) -> bool:
        """Whether the file of conversations is read: they are trained on, or the tokenizer of a model that is
        still to be made is."""
        return self.sft or (self.makes_model and has_warm_up(self.recipe))

    @property
    def draws(self) -> bool:
        """Whether completions are drawn."""
        return self.job is not Job.SFT or bool(self.config.env.name and self.config.data.eval_source)

    @functools.cached_property
    def on_hub(self) -> frozenset[str]:
        """The settings that name a model or data of the hub, which may take long to look at."""
        config = self.config
        return frozenset(key for key, path in read_paths(config)
                         if _of_hub(path) and not (key == "model.path" and self.makes_model))

    @property
    def on_servers(self) -> bool:
        """Whether servers draw the rollouts."""
        return self.rl and self.config.rollout.backend != "jax"

    @property
    def makes_model(self) -> bool:
        """Whether model and tokenizer are still to be made."""
        return not self.given and scratch.to_be_made(self.config)

    @property
    def makes_data(self) -> bool:
        """Whether prompts are still to be made."""
        return bool(self.unmade)

    @property
    def unmade(self) -> dict[pathlib.Path, str]:
        """{folder that is still to be made: what is made there}."""
        if self.given or list(told("data.generate", "", lambda: self.config.data.generated)):
            return {}
        made = self.config.data.generated.values()
        return {folder: name for name, folder in made if not folder.exists()}

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the longest sequences that a row of a micro-batch must hold."""
        rl = self.rl and self.config.train.steps > 0
        return (longest_drawn(self.config),) * rl + (longest_conversation(self.config),) * self.sft

    @property
    def model(self) -> ModelConfig:
        """The model's shape, also of one still to be made. Raises UserError where it cannot be read."""
        section = self.config.scratch
        return from_scratch(section, section.vocab_size) if self.makes_model else self._model

    @functools.cached_property
    def task(self) -> Task:
        """The run's task, made once, which reads its settings alone; whoever runs it closes it. Raises
        ConfigError."""
        return make_task(self.config.env.name)

    @property
    def envs(self) -> tuple[str, ...]:
        """Names of the environments that the task holds; none without a task, or where that is refused."""
        return () if not self.config.env.name or list(told("env.name", "", lambda: self.task)) else (
            self.task.envs)

    @functools.cached_property
    def _model(self) -> ModelConfig:
        return self.bridge.model_config(self.config.model.path)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own; it must be there."""
        return load_tokenizer(self.config.model.path)

    @functools.cached_property
    def prompts(self) -> tuple[list[Prompt], PromptReport]:
        """The prompts of RL, and what became of their rows."""
        return load_prompts(self.config.data, self.tokenizer, context=self.model.drawn_context,
                            envs=self.envs)

    @functools.cached_property
    def held_out(self) -> tuple[list[Prompt], PromptReport]:
        """The held-out prompts that are used (the first eval.prompts of each environment), and what became of
        their rows."""
        prompts, report = load_prompts(self.config.data, self.tokenizer, evaluation=True,
                                       context=self.model.drawn_context, envs=self.envs)
        return first_of_each(prompts, self.config.eval.prompts), report

    @functools.cached_property
    def conversations(self) -> tuple[list[Conversation], ConversationReport]:
        """Those of SFT, and what became of their rows."""
        data = self.config.data
        return load_conversations(self.config.sft, self.tokenizer, system_prompt=data.system_prompt,
                                  suffix=data.suffix)


def first_of_each(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """The first `count` prompts of each environment, in their order; 0: all."""
    seen: collections.Counter[str] = collections.Counter()
    kept = []
    for prompt in prompts:
        seen[prompt.env] += 1
        if not count or seen[prompt.env] <= count:
            kept.append(prompt)
    return kept


def read_paths(config: Config) -> Iterator[tuple[str, str]]:
    """Yields (setting, path) of the model and of all files of data; a setting that names several, for
    each."""
    yield "model.path", config.model.path
    files = {config.data.field: config.data.prompt_files, config.data.eval_field: config.data.held_out_files,
             config.sft.field: config.sft.conversation_files}
    for field, named in files.items():
        for path in named.values():
            yield field, path


def _of_hub(path: str) -> bool:
    """Whether a path can only be the name of a model or a data set of the hub."""
    local = pathlib.Path(path)
    return bool(HUB_NAME.fullmatch(path)) and not local.suffix.startswith((".json", ".parquet")) and (
        not local.exists())


def training(config: Config, bridge: Bridge) -> Start:
    """A whole run: SFT if the recipe has it, then RL."""
    return Start(Job.TRAIN, config, config, bridge)


def fine_tuning(config: Config, bridge: Bridge) -> Start:
    """The SFT phase alone."""
    return Start(Job.SFT, config, sft_config(config), bridge)


def evaluation(config: Config, bridge: Bridge, model: str = "", adapter: str = "") -> Start:
    """An evaluation on the held-out prompts.

    Args:
      config: resolved.
      bridge: reads the model.
      model: folder or hub name, taken as it is; empty: the recipe's, made on the spot if it makes one.
      adapter: PEFT folder; empty: none.
    """
    named = dataclasses.replace(config.model, path=model or config.model.path)
    built = dataclasses.replace(config, lora=dataclasses.replace(config.lora, rank=0), algorithm=NLL,
                                model=named)
    return Start(Job.EVALUATE, config, drawing_alone(built), bridge, bool(model), adapter)
