"""Sections that say how a run is laid out over devices and steps, and what it keeps."""
import dataclasses
from typing import Any

from jaxrl_moe.config.inputs import files_of
from jaxrl_moe.config.setting import setting

_DISPATCH = {
    "single": "the axis has one device",
    "ipc": "inside one host",
    "hybrid": "in two stages, inside hosts and between them",
    "auto": "whichever the devices ask for"}
_TRANSPORTS = {
    "gather": "drops nothing, runs everywhere",
    "ragged": "drops nothing",
    "capacity": "drops what exceeds capacity_factor",
    "auto": "gather"}

_LOSS_MASKS = {
    "conversation": "the whole as the chat template writes it, which must not rewrite turns once others "
                    "follow",
    "qwen": "message by message, so that earlier turns keep their reasoning and all are trained in one "
            "sequence; without tools"}


def _axis(default: int, meaning: str) -> Any:
    return setting(default, meaning, at_least=-1, unit="devices")


@dataclasses.dataclass(frozen=True)
class MeshSection:
    """Devices along each axis, for training and, unless rollout_mesh is set, for rollout.

    One may be -1: what devices are left.
    """
    data: int = _axis(
        1, "copies of the weights, each with its part of a batch; and of the sequences that are drawn")
    fsdp: int = _axis(
        1, "split weights and optimiser state, gathered layer by layer; and rows and sequences as data "
        "does")
    expert: int = _axis(1, "split the experts; and the rows of a batch")
    tensor: int = _axis(1, "split heads, MLPs and the vocabulary")
    context: int = _axis(
        1, "split the tokens of a row: each device has an early and a late part, so that all do as "
        "much; nothing in a rollout")
    pipeline: int = setting(1, "stages of layers: 1 is all there is", at_least=1)
    dispatch: str = setting(
        "auto", "how tokens travel over the expert axis, see distributed/expert_parallel.py",
        choices=_DISPATCH)
    host_devices: int = setting(
        0, "devices of a host, for dispatch; 0: those of a process. Set it where each device has its "
        "own process", at_least=0, unit="devices")
    transport: str = setting("auto", "of tokens to their experts, see distributed/expert_parallel.py",
                             choices=_TRANSPORTS)
    capacity_factor: float = setting(
        0.0, "of transport capacity: an expert's places for each device, over an even share", at_least=0)


@dataclasses.dataclass(frozen=True)
class RolloutMeshSection:
    """A mesh for the rollout alone; all 0: it shares the devices and the mesh of training.

    Under rollout.backend jax and in one process. Training takes the first devices, the rollout those after
    them, and weights are copied over after each update. Axes as in mesh, 0 counting as 1; one axis of the two
    sections may be -1: what devices are left.
    """
    data: int = _axis(0, "copies of the weights, each with its part of the sequences")
    fsdp: int = _axis(0, "split weights, gathered layer by layer; and sequences as data does")
    expert: int = _axis(0, "split the experts; and the sequences")
    tensor: int = _axis(0, "split heads, MLPs and the vocabulary")

    @property
    def apart(self) -> bool:
        """Whether rollout has devices of its own."""
        return any(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class OptimizerSection:
    """AdamW, and its learning rate over the steps; SFT has a rate of its own in sft."""
    learning_rate: float = setting(1e-5, "of the policy, after the warm-up", at_least=0)
    schedule: str = setting("constant", "of the learning rate after the warm-up",
                            table="learning.optimizer.SCHEDULES")
    warmup_steps: int = setting(0, "steps over which the learning rate rises from 0",
                                at_least=0, unit="steps")
    weight_decay: float = setting(0.0, "decoupled, as in AdamW", at_least=0)
    b1: float = setting(0.9, "decay of Adam's mean of gradients", at_least=0, at_most=0.999999)
    b2: float = setting(0.95, "decay of Adam's mean of squared gradients", at_least=0, at_most=0.99999999)
    eps: float = setting(1e-8, "added to the root of Adam's mean of squares", at_least=0)
    clip_norm: float = setting(1.0, "norm to which gradients are clipped; 0: they are not", at_least=0)


@dataclasses.dataclass(frozen=True)
class TrainSection:
    """How long RL goes on, and how an update is cut into what the device's memory holds."""
    steps: int = setting(100, "steps of RL, each a batch of rollouts and its update; 0: none",
                         at_least=0, unit="steps")
    max_minutes: float = setting(
        0.0, "of the command, SFT included: before the step that would go beyond it saves and ends with exit "
        "code 75, and goes on when started again, as serverless slices and batch queues need it; 0: no limit",
        at_least=0, unit="minutes")
    tokens_per_micro_batch: int = setting(8192, "tokens in one forward and backward pass, padding included",
                                          at_least=1, unit="tokens")
    pack: bool = setting(True, "put several sequences into one row")
    remat: str = setting(
        "none", "what the backward pass computes again: none, mlp (or experts, from their input), full "
        "(whole layers). none is fastest; mlp costs a quarter more computing at most and keeps several "
        "times less where experts are many; full a third", table="model.transformer.REMAT")
    offload: tuple[str, ...] = setting(
        (), "what lies in the host's memory between uses, where the devices reach it",
        table="learning.programs.OFFLOAD")


@dataclasses.dataclass(frozen=True)
class SftSection:
    """Supervised fine-tuning: by scripts/sft.py, or as the warm-up before RL."""
    path: str = setting("", "conversations: a jsonl, json or parquet file, or a hub data set", kind="path")
    files: str = setting(
        "", "in place of path: several, such as textcraft=a.jsonl,babyai=b.jsonl; each epoch has all their "
        "rows", kind="files")
    steps: int = setting(0, "steps of SFT; 0: no warm-up before RL (scripts/sft.py refuses it)",
                         at_least=0, unit="steps")
    epochs: int = setting(0, "passes over the conversations, instead of steps", at_least=0)
    sequences_per_step: int = setting(32, "conversations in a batch", at_least=1)
    max_tokens: int = setting(1024, "longest conversation; longer ones are left out, and counted",
                              at_least=2, unit="tokens")
    learning_rate: float = setting(1e-3, "of SFT, in place of optimizer.learning_rate", at_least=0)
    loss_mask: str = setting("conversation", "how conversations become sequences", choices=_LOSS_MASKS)
    full: bool = setting(True, "train all weights; false: the adapters of the lora section")
    eval_every: int = setting(0, "steps between evaluations; 0: only at the end", at_least=0, unit="steps")
    stop_at_accuracy: float = setting(0.0, "end early once sampled held-out accuracy reaches this; 0: never",
                                      at_least=0, at_most=1)

    @property
    def source(self) -> str:
        """What the conversations come from, for messages; empty: nothing."""
        return self.files or self.path

    @property
    def field(self) -> str:
        """The setting that says what the conversations are."""
        return "sft.files" if self.files else "sft.path"

    @property
    def conversation_files(self) -> dict[str, str]:
        """{name: path}; the name of path alone is empty."""
        return files_of(self.files, self.path)


@dataclasses.dataclass(frozen=True)
class EvalSection:
    """Evaluations on the held-out prompts of data.eval_path (or eval_files, eval_seeds)."""
    every: int = setting(0, "steps between evaluations; 0: only at the end", at_least=0, unit="steps")
    at_start: bool = setting(True, "evaluate before the first step too")
    prompts: int = setting(0, "so many of the held-out prompts, of each of several environments; 0: all",
                           at_least=0)
    samples: int = setting(1, "completions per prompt; pass@k for k up to this", at_least=1)
    temperature: float = setting(1.0, "of sampling", above=0)
    greedy: bool = setting(False, "report greedy accuracy too")


@dataclasses.dataclass(frozen=True)
class CheckpointSection:
    """Checkpoints in run_dir, and going on from them."""
    every: int = setting(0, "steps between checkpoints; 0: only at the end", at_least=0, unit="steps")
    keep: int = setting(3, "so many of the newest are kept", at_least=1)
    resume: bool = setting(True, "go on from the newest checkpoint in run_dir")
    resume_step: int = setting(
        -1, "go on from the checkpoint of this step, as where the newest is damaged; later ones, and what "
        "was logged after it, are set aside; -1: from the newest", at_least=-1, unit="step")


@dataclasses.dataclass(frozen=True)
class LoggingSection:
    """What a run writes down besides metrics.jsonl."""
    tensorboard: bool = setting(True, "write metrics for TensorBoard too")
    wandb_project: str = setting(
        "", "send metrics to this project of Weights & Biases too (extra wandb); empty: to none", kind="text")
    trajectories: bool = setting(
        True, "write every completion, with its tokens and reward, to trajectories.jsonl")
    entropy: bool = setting(True, "log policy/entropy; costs one more product with the output matrix")
    profile_start: int = setting(-1, "step at which a jax.profiler window opens; -1: never",
                                 at_least=-1, unit="step")
    profile_steps: int = setting(2, "steps that the window covers", at_least=1, unit="steps")
