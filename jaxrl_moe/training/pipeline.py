"""A whole run, phase by phase: data and model, SFT warm-up, RL, export, report. scripts/train.py hands in the bridges."""
import dataclasses
import pathlib
from typing import Protocol

from jaxrl_moe.config import Config
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.sft import load_conversations
from jaxrl_moe.data.tokenizer import Tokenizer, load_tokenizer
from jaxrl_moe.envs import check_rows, make_env
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rollout.engine import JaxEngine
from jaxrl_moe.training import preflight, validate, writers
from jaxrl_moe.training.evaluate import Evaluation, evaluate
from jaxrl_moe.training.report import report
from jaxrl_moe.training.scratch import ensure_data, ensure_model
from jaxrl_moe.training.sft import NLL, sft, sft_config, total_steps
from jaxrl_moe.training.step import Learner
from jaxrl_moe.training.train import train
from jaxrl_moe.training.trajectories import Trajectories
from jaxrl_moe.types import Prompt


class Bridge(Protocol):
    """The functions of the `bridges` package that a run needs; this package must not import it."""

    def load_model(self, path, *, lora: LoraConfig | None, dtype, seed: int, attention: str,
                   grouped_matmul: str) -> Transformer: ...
    def export_model(self, model, path, *, source=None, overwrite=False) -> pathlib.Path: ...
    def export_adapter(self, model, path, base, overwrite=False) -> pathlib.Path: ...
    def model_config(self, path) -> ModelConfig: ...
    def check_adapters(self, config: ModelConfig, lora: LoraConfig) -> None: ...
    def read_lora(self, path) -> LoraConfig: ...
    def import_adapter(self, model, path) -> None: ...


@dataclasses.dataclass(frozen=True)
class Data:
    """A run's tokenizer, and its prompts under it."""
    tokenizer: Tokenizer
    prompts: list[Prompt]
    eval_prompts: list[Prompt]


def run_all(config: Config, bridge: Bridge) -> bool:
    """SFT first if the recipe has it, then RL, then the export and the report. Each phase goes on from its newest checkpoint.

    Returns:
      False if SIGTERM ended it early; all is saved then.
    """
    validate.validate(config)
    with preflight.locked(config.run_dir):
        return _run_all(config, bridge)


def _run_all(config: Config, bridge: Bridge) -> bool:
    make_scratch(config, bridge, draws=True, sft=preflight.has_warm_up(config))
    data = prepare(config, bridge)
    if preflight.has_warm_up(config):
        if not warm_up(config, bridge, data):
            return False
        config = after_warm_up(config)
    updates = config.train.steps * config.algorithm.epochs * config.algorithm.minibatches
    learner, engine = build(config, bridge, data.tokenizer, updates)
    if not train(config, learner, engine, data.tokenizer, data.prompts, data.eval_prompts):
        return False
    export(config, bridge, learner, pathlib.Path(config.run_dir))
    report(pathlib.Path(config.run_dir))
    return True


def run_sft(config: Config, bridge: Bridge) -> bool:
    """Only the SFT phase and its export; evaluated if the recipe names an environment and held-out prompts.

    Returns:
      False if SIGTERM ended it early; all is saved then.
    """
    validate.validate(config, rl=False)
    validate.sft_only(config)
    config = sft_config(config)
    with preflight.locked(config.run_dir):
        make_scratch(config, bridge, draws=bool(config.env.name and config.data.eval_path), sft=True)
        done = warm_up(config, bridge, prepare(config, bridge, training=False))
        if done:
            report(pathlib.Path(config.run_dir))
    return done


def run_evaluation(config: Config, bridge: Bridge, model: str | None, adapter: str | None,
                   output: pathlib.Path) -> dict[str, float]:
    """Evaluates a model under an adapter, if any; writes metrics and completions to output.

    Args:
      config: resolved; of its data only the held-out prompts are read.
      bridge: reads the model.
      model: folder or hub name, taken as it is; None: the recipe's, made on the spot if the recipe makes one.
      adapter: PEFT folder or None.
      output: folder for the metrics and completions.
    """
    config = dataclasses.replace(config, lora=dataclasses.replace(config.lora, rank=0), algorithm=NLL, model=dataclasses.replace(
        config.model, path=model or config.model.path))
    validate.validate(config, rl=False)
    validate.evaluation_only(config)
    if model:
        preflight.check_context(config, preflight.context_length(config, bridge), draws=True, sft=False)
    else:
        make_scratch(config, bridge, draws=True, sft=False)
    data = prepare(config, bridge, training=False)
    policy = load(config, bridge, bridge.read_lora(adapter) if adapter else None)
    if adapter:
        bridge.import_adapter(policy, adapter)
    result = evaluate(data.eval_prompts, make_env(**dataclasses.asdict(config.env)),
                      make_engine(config, policy, data.tokenizer), config, data.tokenizer.decode)
    writers.cut_lines(output / "metrics.jsonl", -1)
    writers.cut_lines(output / "trajectories.jsonl", -1)
    writers.JsonLines(output / "metrics.jsonl").write(0, result.metrics)
    for phase, groups in result.groups.items():
        Trajectories(output / "trajectories.jsonl", data.tokenizer.decode).write(0, phase, groups)
    return result.metrics


def warm_up(config: Config, bridge: Bridge, data: Data) -> bool:
    """Fine-tunes model.path on the conversations and exports run_dir/sft/model, unless that is there already.

    Raises:
      ConfigError: it is there, but made with other settings.
    """
    if preflight.warmed_up(config):
        return True
    config = sft_config(config)
    conversations, counts = load_conversations(config.sft, data.tokenizer, system_prompt=config.data.system_prompt,
                                               suffix=config.data.suffix)
    print(counts)
    learner, engine = build(config, bridge, data.tokenizer, total_steps(config, len(conversations)))

    def evaluation() -> Evaluation:
        engine.publish(learner.params(), 0)
        result = evaluate(data.eval_prompts, make_env(**dataclasses.asdict(config.env)), engine, config, data.tokenizer.decode)
        engine.release()
        return result

    graded = bool(config.env.name and data.eval_prompts)
    if not sft(config, learner, conversations, data.tokenizer.decode, evaluation if graded else None):
        return False
    export(config, bridge, learner, pathlib.Path(config.run_dir) / "sft")
    return True


def after_warm_up(config: Config) -> Config:
    """The configuration of the RL phase: it starts from the fine-tuned model, whose accuracy is known."""
    path = str(pathlib.Path(config.run_dir) / "sft" / "model")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, path=path),
                               eval=dataclasses.replace(config.eval, at_start=False))


def export(config: Config, bridge: Bridge, learner: Learner, folder: pathlib.Path) -> None:
    """Writes folder/model (merged) and, if adapters were trained, folder/adapter; prints where they are."""
    model = learner.model()
    print("Hugging Face checkpoint:", bridge.export_model(model, folder / "model", source=config.model.path, overwrite=True))
    if config.lora.rank:
        print("PEFT adapter:", bridge.export_adapter(model, folder / "adapter", config.model.path, overwrite=True))


def make_scratch(config: Config, bridge: Bridge, *, draws: bool, sft: bool) -> None:
    """Makes the data and the model that are to be made on the spot, once nothing speaks against the run.

    Raises:
      UserError: run_dir holds a run of another seed, or the model's context or its adapters do not fit.
    """
    preflight.refuse_other_seed(config)
    preflight.check_context(config, preflight.context_length(config, bridge), draws=draws, sft=sft)
    ensure_data(config)
    ensure_model(config, bridge)
    preflight.check_adapters(config, bridge)


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
        check_rows(make_env(**dataclasses.asdict(config.env)), [*prompts, *held_out])
    return Data(tokenizer, prompts, held_out)


def build(config: Config, bridge: Bridge, tokenizer: Tokenizer, optimiser_steps: int) -> tuple[Learner, JaxEngine]:
    """The policy with its optimiser, and an engine over the same arrays."""
    lora = LoraConfig(**dataclasses.asdict(config.lora)) if config.lora.rank else None
    model = load(config, bridge, lora)
    validate.warn_of_router(config, model.config)
    engine = make_engine(config, model, tokenizer)
    learner = Learner(model, config.optimizer, optimiser_steps, remat=config.train.remat, seed=config.seed)
    return learner, engine


def load(config: Config, bridge: Bridge, lora: LoraConfig | None) -> Transformer:
    """The model of the model section, with adapters if any."""
    return bridge.load_model(config.model.path, lora=lora, dtype=config.model.dtype or None, seed=config.seed,
                             attention=config.model.attention, grouped_matmul=config.model.grouped_matmul)


def make_engine(config: Config, model: Transformer, tokenizer: Tokenizer) -> JaxEngine:
    return JaxEngine(model, config.rollout, max_prompt_tokens=config.data.max_prompt_tokens, seed=config.seed,
                     eos_ids=tokenizer.eos_ids, detokenise=tokenizer.decode)
