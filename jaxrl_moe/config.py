"""The configuration: one frozen dataclass per section, and a ConfigDict over them for files and command lines.

A recipe calls `base()`, changes what differs, and returns the ConfigDict. After command-line overrides `resolve()` checks
it and turns it into a `Config`; past that point no ConfigDict is left.
"""
import dataclasses
import difflib
import types
from typing import Any

import ml_collections

from jaxrl_moe import config_checks
from jaxrl_moe.types import UserError


class ConfigError(UserError):
    """A setting that cannot work; the message names the field, the value and the fix."""


@dataclasses.dataclass(frozen=True)
class ModelSection:
    path: str = ""              # HF checkpoint folder or hub name
    dtype: str = ""             # "float32" | "bfloat16"; empty: float32 on CPU, bfloat16 elsewhere
    attention: str = "auto"     # see kernels/attention.py: auto | xla | causal | chunked | cudnn
    grouped_matmul: str = "auto"  # see kernels/grouped_matmul.py: auto | tiles | padded | ragged | tokamax


@dataclasses.dataclass(frozen=True)
class ScratchSection:
    """A random model with its own tokenizer, made at model.path where there is no folder yet; vocab_size 0: none."""
    vocab_size: int = 0         # of a byte-level BPE tokenizer trained on the run's own data
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 32
    num_experts: int = 8        # 0: a dense model
    num_experts_per_tok: int = 2
    router_bias: bool = False   # routers get a selection bias, which moe.bias_rate moves
    intermediate_size: int = 128  # of an expert, or of a dense layer's MLP
    context: int = 1024         # longest sequence
    initializer_range: float = 0.02


@dataclasses.dataclass(frozen=True)
class LoraSection:
    rank: int = 16              # 0: full fine-tuning
    alpha: float = 32.0
    rslora: bool = False        # scale alpha / sqrt(rank) instead of alpha / rank
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)  # "all-linear", or names such as "q_proj", or regular expressions on paths


@dataclasses.dataclass(frozen=True)
class DataSection:
    path: str = ""              # jsonl, json or parquet file, or a hub data set such as openai/gsm8k
    split: str = "train"        # of a hub data set
    eval_path: str = ""         # held-out prompts, same forms
    eval_split: str = "test"
    system_prompt: str = ""     # put before a bare string prompt
    suffix: str = ""            # appended to a bare string prompt
    generate: str = ""          # "word_problems": made on the spot in the folder of data.path, if it is absent
    max_prompt_tokens: int = 512  # longer prompts are left out, and counted
    shuffle: bool = True


@dataclasses.dataclass(frozen=True)
class EnvSection:
    name: str = ""              # a task, with settings in brackets: gsm8k(binary=true), or package.module:Name


@dataclasses.dataclass(frozen=True)
class RolloutSection:
    prompts_per_step: int = 8
    group_size: int = 8
    max_tokens: int = 256       # of a completion
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_strings: tuple[str, ...] = ()
    # jax (this process) | sglang | vllm (see servers): who draws the rollouts of RL. SFT's evaluations and scripts/evaluate.py draw
    # in process. What follows down to decode_steps concerns jax alone: servers have settings of their own for it
    backend: str = "jax"
    slots: int = 64             # sequences decoded at once, on all devices; rounded up to a multiple of the mesh's data x fsdp
    page_size: int = 32         # tokens in a KV page
    # tokens in the KV pool of each of the data x fsdp parts that a mesh splits the sequences into (on a single device: of the pool);
    # 0: its slots x (longest prompt + max_tokens), as far as memory allows
    kv_tokens: int = 0
    memory_fraction: float = 0.85  # of the device's free memory that the KV pool may take, where kv_tokens is 0
    decode_steps: int = 16      # tokens drawn between two looks at the host
    dynamic_sampling: bool = False  # keep only groups whose rewards differ, and draw further ones until the batch is full
    max_rounds: int = 10        # of drawing for one batch under dynamic sampling
    # Policy versions that a token may be behind the weights that it updates. 0: drawing, grading and updating take turns. Above, they
    # overlap, and rollouts that are not done go on under the next weights. The same run then no longer gives the same bits
    max_staleness: int = 0
    # Of groups still being drawn when the bound wants them in the next batch, and it lacks nothing else: carry (wait for them) | cut
    # (end them as if the token limit had come; backend jax alone) | abort (draw them again from the start, once; then wait for them)
    stragglers: str = "carry"
    graders: int = 8            # threads that grade; a task that cannot take several (it says so) has one


@dataclasses.dataclass(frozen=True)
class ServersSection:
    """The SGLang or vLLM servers of rollout.backend: given as URLs, or launched by the run."""
    urls: tuple[str, ...] = ()  # such as http://host:30000, or of a router of SGLang; empty: launch some
    python: str = ""            # to launch: the Python of the environment that has SGLang or vLLM
    count: int = 1              # how many to launch
    gpus: str = ""              # CUDA_VISIBLE_DEVICES of each launched server, semicolons between: "2,3;4,5"; empty: as in this process
    flags: str = ""             # further flags of launched servers, as on their command line
    start_timeout: float = 600.0  # seconds until a server must be healthy
    api_key_env: str = ""       # the environment variable that holds the servers' API key; empty: none
    concurrency: int = 64       # requests in flight at each server
    request_timeout: float = 600.0  # seconds until an answer must be there; a server that takes longer counts as hanging
    wait: float = 600.0         # seconds to wait when no server is left, before the run stops
    # auto | adapter (the LoRA adapter alone); or all weights, adapters merged in: disk (a whole checkpoint), stream (in buckets through
    # shared memory), delta (likewise, but only tensors that changed), distributed (in buckets, broadcast by torch.distributed)
    weight_sync_backend: str = "auto"
    sync_folder: str = ""       # where weights are left for the servers; empty: a RAM disk of this machine, for servers on it
    bucket_bytes: int = 256 * 10**6  # of weights on their way at a time, under stream, delta and distributed
    in_flight: str = "resume"   # resume | abort: requests that all weights are replaced under go on, or are begun again where they stood
    tolerance: float = 0.0      # mean |log-prob difference| in nats that the probe after a sync allows; 0: 1e-4, or 0.1 in bfloat16

    def devices(self) -> list[str]:
        """CUDA_VISIBLE_DEVICES of each server to launch; empty: as in this process."""
        return self.gpus.split(";") if self.gpus else [""] * self.count


@dataclasses.dataclass(frozen=True)
class EndpointSection:
    """An OpenAI-compatible endpoint of the policy while it is trained, for environments and judges that ask it by its URL (extra serve).

    Calls are recorded in run_dir/served.jsonl. They wait while the weights are updated, so that nothing which the update waits for may
    ask then. With calls among them a rollout's numbers agree to rounding, not bit for bit.
    """
    serve: bool = False
    host: str = "127.0.0.1"
    port: int = 8000            # 0: a free one
    api_key_env: str = ""       # the environment variable that holds the API key; needed where other machines can connect
    queue: int = 256            # samples that may wait; more are refused with 429


@dataclasses.dataclass(frozen=True)
class AlgorithmSection:
    advantage: str = "grpo"     # a row of rl.advantages.ADVANTAGES, with settings in brackets: grpo(eps=1e-4)
    loss: str = "clipped_surrogate"  # a row of rl.losses.LOSSES, likewise: dual_clip(dual_clip=4)
    aggregation: str = "seq-mean-token-mean"
    clip_low: float = 0.0       # 0: the loss's own default, 0.2 for clipped_surrogate, 3e-4 for gspo
    clip_high: float = 0.0      # the same
    corrections: tuple[str, ...] = ()  # for a sampler unlike the trainer; rows of rl.corrections.CORRECTIONS: tis, icepop(high=4)
    bypass: bool = False        # the sampler's log-probs are the old ones: none are computed anew, mismatch/* compares the update's
    kl_coef: float = 0.001      # to the reference: the policy without its adapters, or a copy of the weights that lora.rank = 0 starts from
    kl_estimator: str = "k3"
    kl_in: str = "loss"         # loss | reward: where the KL to the reference is charged
    kl_target: float = 0.0      # nats a token; above 0, kl_coef follows it: x 1.3 above 1.5 times the target, x 0.7 below half
    entropy_coef: float = 0.0
    gamma: float = 1.0          # discount per token
    lam: float = 1.0            # lambda of generalised advantage estimation
    returns: str = "outcome"    # of several turns, outcome | trajectory (discounted sum) | turns (each turn its own sample)
    turn_gamma: float = 0.4     # discount per turn, under trajectory and turns
    step_rewards: str = "none"  # none | decision_stepwise: a turn earns step_lambda if it unlocks an achievement, instead of its reward
    step_lambda: float = 1.0    # under decision_stepwise, which needs an environment whose turns say what is achieved
    reward_blend: tuple[float, ...] = ()  # weights of the reward, of info's "event" and of its "outcome", as in 0.3,0.3,0.4; empty: none
    truncated: str = "keep"     # mask | penalise | keep | bootstrap (with a critic: its value at the cut)
    truncated_penalty: float = 0.0  # subtracted from the reward of a truncated completion under "penalise"
    overlong_tokens: int = 0    # longest completion without a penalty of 1, DAPO's soft overlong penalty; 0: no penalty
    overlong_cushion: int = 0   # over which many tokens below it the penalty rises from 0
    drop_constant_groups: bool = False  # leave groups of equal rewards out of the update, and of its denominators
    epochs: int = 1             # passes over each batch of rollouts
    minibatches: int = 1        # optimiser steps per pass; fewer where masking leaves fewer sequences


@dataclasses.dataclass(frozen=True)
class CriticSection:
    """A value head on the policy's trunk; made where algorithm.advantage needs one."""
    learning_rate: float = 5e-5
    coef: float = 1.0           # of the value loss, which has a factor 1/2 in itself
    clip: float = 0.2           # bound on a value's change in one batch; 0: none
    train_trunk: bool = True    # False: the value loss trains the head alone
    path: str = ""              # folder with a critic that an earlier run exported, to start from; empty: a fresh one


@dataclasses.dataclass(frozen=True)
class MoeSection:
    # none | r2 (routes of the old-logprob pass) | r3 (routes of the rollout engine); a token costs sparse layers x active
    # experts bytes (twice that above 128 experts), on the host for a whole batch and on the device for one micro-batch
    replay: str = "none"
    aux_loss_coef: float = 0.0  # load-balancing loss
    z_loss_coef: float = 0.0    # router z-loss
    bias_rate: float = 0.0      # step of the routers' selection bias, which balances without a loss; needs a model that has one
    router: str = "auto"        # train | freeze | auto: frozen under LoRA, else trained. Their selection bias follows bias_rate alone


@dataclasses.dataclass(frozen=True)
class MeshSection:
    """Devices along each axis, for training and, unless rollout_mesh is set, for rollout; one may be -1: what devices are left."""
    data: int = 1               # copies of the weights, each with its part of a batch; and of the sequences that are drawn
    fsdp: int = 1               # splits weights and optimiser state, gathered layer by layer; and rows and sequences as data does
    expert: int = 1             # splits the experts; and the rows of a batch
    tensor: int = 1             # splits heads, MLPs and the vocabulary
    # Splits the tokens of a row: each device has an early and a late part, so that all do as much. Nothing in a rollout
    context: int = 1
    pipeline: int = 1           # stages of layers: 1 is all there is
    # Over the expert axis. single: it has one device | ipc: inside one host | hybrid: in two stages, inside hosts and between them |
    # auto: whichever the devices ask for
    dispatch: str = "auto"
    host_devices: int = 0       # devices of a host, for dispatch; 0: those of a process. Set it where each device has its own process
    transport: str = "auto"     # of tokens to their experts, see distributed/expert_parallel.py: gather | capacity | ragged | auto (gather)
    capacity_factor: float = 0.0  # of transport capacity: an expert's places for each device, over an even share


@dataclasses.dataclass(frozen=True)
class RolloutMeshSection:
    """A mesh for the rollout alone, under rollout.backend jax and in one process; all 0: it shares the devices and the mesh of training.

    Training takes the first devices, the rollout those after them, and weights are copied over after each update. Axes as in mesh, 0
    counting as 1; one axis of the two sections may be -1: what devices are left.
    """
    data: int = 0
    fsdp: int = 0
    expert: int = 0
    tensor: int = 0

    @property
    def apart(self) -> bool:
        """Whether rollout has devices of its own."""
        return any(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class OptimizerSection:
    learning_rate: float = 1e-5
    schedule: str = "constant"  # constant | cosine | linear, after the warm-up
    warmup_steps: int = 0
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    clip_norm: float = 1.0


@dataclasses.dataclass(frozen=True)
class TrainSection:
    steps: int = 100
    tokens_per_micro_batch: int = 8192  # padded tokens in one forward and backward pass
    pack: bool = True           # several sequences in one row
    # none is fastest; mlp costs a quarter more computing at most and keeps several times less where experts are many; full a third
    remat: str = "none"         # what the backward pass computes again: none | mlp (or experts, from their input) | full (whole layers)
    offload: tuple[str, ...] = ()  # optimizer, reference: lie in the host's memory between uses, where the devices reach it


@dataclasses.dataclass(frozen=True)
class SftSection:
    path: str = ""              # conversations: jsonl, json or parquet
    steps: int = 0              # 0: no warm-up before RL (scripts/sft.py refuses it)
    epochs: int = 0             # instead of steps
    sequences_per_step: int = 32
    max_tokens: int = 1024      # longer conversations are left out, and counted
    learning_rate: float = 1e-3
    full: bool = True           # train all weights; False: the adapters of the lora section
    eval_every: int = 0         # steps between evaluations; 0: only at the end
    stop_at_accuracy: float = 0.0  # end early once sampled held-out accuracy reaches this; 0: never


@dataclasses.dataclass(frozen=True)
class EvalSection:
    every: int = 0              # steps; 0: only at the end
    at_start: bool = True       # before the first step too
    prompts: int = 0            # 0: all
    samples: int = 1            # completions per prompt; pass@k for k up to this
    temperature: float = 1.0
    greedy: bool = False        # report greedy accuracy too


@dataclasses.dataclass(frozen=True)
class CheckpointSection:
    every: int = 0              # steps; 0: only at the end
    keep: int = 3
    resume: bool = True         # go on from the newest checkpoint in run_dir


@dataclasses.dataclass(frozen=True)
class LoggingSection:
    tensorboard: bool = True
    wandb_project: str = ""     # empty: no Weights & Biases
    trajectories: bool = True
    entropy: bool = True        # policy/entropy; costs one more product with the output matrix
    profile_start: int = -1     # step at which a jax.profiler window opens; -1: never
    profile_steps: int = 2


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    run_dir: str = "runs/default"
    model: ModelSection = ModelSection()
    scratch: ScratchSection = ScratchSection()
    lora: LoraSection = LoraSection()
    data: DataSection = DataSection()
    env: EnvSection = EnvSection()
    rollout: RolloutSection = RolloutSection()
    servers: ServersSection = ServersSection()
    endpoint: EndpointSection = EndpointSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    critic: CriticSection = CriticSection()
    moe: MoeSection = MoeSection()
    mesh: MeshSection = MeshSection()
    rollout_mesh: RolloutMeshSection = RolloutMeshSection()
    optimizer: OptimizerSection = OptimizerSection()
    train: TrainSection = TrainSection()
    sft: SftSection = SftSection()
    eval: EvalSection = EvalSection()
    checkpoint: CheckpointSection = CheckpointSection()
    logging: LoggingSection = LoggingSection()


SECTIONS = {field.name: field.type for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)}


def base() -> ml_collections.ConfigDict:
    """The defaults as a locked ConfigDict: a recipe starts from it, and a misspelt key fails at once."""
    return ml_collections.ConfigDict(dataclasses.asdict(Config())).lock()


def resolve(settings: ml_collections.ConfigDict) -> Config:
    """Turns a ConfigDict (or nested dict) into a Config and checks all that needs no model, data or table of names.

    Raises:
      ConfigError: an unknown key, a wrong type, a value out of range or settings that contradict each other.
    """
    settings = settings.to_dict() if hasattr(settings, "to_dict") else dict(settings)
    config = _build(Config, settings, "")
    for problem in config_checks.problems(config):
        raise ConfigError(problem)
    return config


def to_json(config: Config) -> dict[str, Any]:
    """The Config as plain JSON values; `resolve` reads them back to an equal Config."""
    return dataclasses.asdict(config, dict_factory=lambda items: {
        name: list(value) if isinstance(value, tuple) else value for name, value in items})


def known_keys() -> dict[str, type]:
    """Every settable key, dotted, with its type: {"seed": int, "lora.rank": int, ...}."""
    keys = {}
    for field in dataclasses.fields(Config):
        if field.name in SECTIONS:
            keys |= {f"{field.name}.{inner.name}": inner.type for inner in dataclasses.fields(field.type)}
        else:
            keys[field.name] = field.type
    return keys


def refuse_unknown(key: str) -> None:
    """Raises ConfigError if the dotted key is neither a setting nor a section."""
    if key not in known_keys() and key not in SECTIONS:
        raise ConfigError(f"There is no setting {key!r}.{_nearest(key)}")


def _nearest(key: str) -> str:
    """The setting that a misspelt one most likely means, or what there is to choose from."""
    section, _, name = key.partition(".")
    known = list(known_keys())
    if section in SECTIONS:
        inner = [other.partition(".")[2] for other in known if other.startswith(section + ".")]
        close = [f"{section}.{found}" for found in difflib.get_close_matches(name, inner, 1)]
        close = close or [other for other in known if other.endswith("." + name)]
    else:
        inner = []
        close = difflib.get_close_matches(key, [*known, *(() if name else SECTIONS)], 1)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Those of {section} are {', '.join(inner)}." if inner else f" The sections are {', '.join(SECTIONS)}."


def _build(kind: type, values: dict[str, Any], prefix: str):
    for name in values:
        refuse_unknown(prefix + name)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return kind(**{name: _convert(fields[name].type, value, prefix + name) for name, value in values.items()})


def _convert(kind: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, dict(value), key + ".")
    if isinstance(kind, types.GenericAlias):  # tuple[str, ...] or tuple[float, ...], the only containers among the settings
        return _convert_items(kind.__args__[0], split_names(value) if isinstance(value, str) else value, key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{key} = {value!r} is of type {type(value).__name__}; it must be a {kind.__name__}.")
    return value


def _convert_items(kind: type, values: Any, key: str) -> tuple:
    try:
        return tuple(map(kind, values))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key} = {values!r} cannot be read: give values of type {kind.__name__} with commas between.") from error


def split_names(text: str) -> tuple[str, ...]:
    """Splits "q_proj,v_proj" at the commas that stand outside brackets, so that regular expressions stay whole."""
    names, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0:
            names.append("")
        else:
            names[-1] += letter
    return tuple(name.strip() for name in names if name.strip())
