"""A plan in words: bytes per device, times, cost, and whether it fits."""
import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from jaxrl_moe.checks.problems import refuse
from jaxrl_moe.checks.settings import contradictions
from jaxrl_moe.config import Config
from jaxrl_moe.distributed.chips import Chip, find_chip
from jaxrl_moe.distributed.collectives import AXES
from jaxrl_moe.distributed.mesh import MeshError, inferred, parse
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.outside import read_object
from jaxrl_moe.phases import longest_rollout
from jaxrl_moe.planning.costs import UNPAID, Rates, cost_lines
from jaxrl_moe.planning.kernels import plan as kernel_plan
from jaxrl_moe.planning.plan import Plan, make_plan
from jaxrl_moe.planning.programs import Program
from jaxrl_moe.planning.waiting import NOTHING_SAID, JudgingTimes, waiting, waiting_lines
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.types import UserError

GIB = 2**30


def text(config: Config, *, chip: str, chips: str | None = None, rates: Rates = UNPAID,
         shape: str | None = None, devices: Sequence[jax.Device] | None = None, kernels: bool = False,
         asked: JudgingTimes = NOTHING_SAID) -> str:
    """The plan of a run.

    Args:
      config: resolved.
      devices: see make_plan.
      chip, chips: see find_chip.
      rates: what devices cost, and what there is for them.
      shape: path of a config.json; None: that of model.path, a folder.
      kernels: whether the tables of kernels follow.
      asked: what is known of judges.

    Raises:
      UserError: unknown chip, no config.json, a mesh that does not fit, or kernels where nothing can be
        compiled for the chip.
    """
    refuse(contradictions(config))
    spec = find_chip(chip, chips)
    model = model_config(config, shape)
    if kernels:
        kernel_plan.check(spec, chip)
    judged = waiting(config, asked)
    plan = make_plan(config, model, spec.client_memory(), devices)
    sections = [[compiler_line(plan, chip)], memory_lines(plan, config, spec, chip), traffic_lines(plan),
                time_lines(plan, config, spec, chip, rates), waiting_lines(judged) if judged else [],
                left_out(plan, config)]
    tables = kernel_plan.lines(plan, spec, chip) if kernels else []
    lines = [line for section in sections for line in section]
    return "\n".join([*lines, verdict(plan, config, spec, chip), *tables])


def with_mesh(config: Config, text: str | None) -> Config:
    """The configuration with the axes of a text such as "fsdp=4,expert=2"; the others stay.

    Raises:
      MeshError: the text cannot be read, or the mesh section has other sizes for its axes.
    """
    sizes = parse(text) if text else {}
    other = [axis for axis in sizes if getattr(config.mesh, axis) not in (1, sizes[axis])]
    if other:
        axis = other[0]
        size = sizes[other[0]]
        raise MeshError(f"--mesh={text} has {axis} = {size}, and the mesh section has "
                        f"{getattr(config.mesh, axis)}: leave it out of one of them, or give "
                        f"--config.mesh.{axis}={size} too.")
    return dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, **sizes))


def device_count(config: Config, given: int) -> int:
    """How many devices a plan is compiled for.

    Args:
      config: resolved.
      given: how many there are, for an axis of -1; 0: as many as the meshes name.
    """
    sizes = {axis: getattr(config.mesh, axis) for axis in AXES}
    if config.rollout_mesh.apart:
        own = (size or 1 for size in dataclasses.asdict(config.rollout_mesh).values())
        return given or math.prod(map(abs, sizes.values())) + abs(math.prod(own))
    return math.prod(inferred(sizes, given or math.prod(map(abs, sizes.values()))).values())


def model_config(config: Config, shape: str | None) -> ModelConfig:
    """Of a config.json at `shape`, or of model.path, a folder.

    Raises:
      UserError: there is none, or it describes a model that no family reads.
    """
    path = pathlib.Path(shape or pathlib.Path(config.model.path) / "config.json")
    if not path.exists():
        raise UserError(f"{path} is not there: give --model_config=FILE, such as "
                        "configs/shapes/qwen3_30b_a3b.json, or a model.path that is a folder with a "
                        "config.json.")
    return ModelConfig.from_hf(read_object(path), str(path))


def compiler_line(plan: Plan, name: str) -> str:
    """Whose account of the programs the plan is."""
    if plan.compiled_for:
        return (f"Compiled for {plan.compiled_for}: bytes are those that its programs ask for; none of them "
                "was run.")
    return (f"Derived on a CPU: an estimate, of which the programs for {name} may differ by tens of GiB. "
            "`make target` brings their compiler here (402 MB, no GPU needed).")


def memory_lines(plan: Plan, config: Config, chip: Chip, name: str) -> list[str]:
    """Bytes of a device; what only the CPU's compiler needs stands on lines of its own."""
    lora = config.lora.rank > 0
    rows = [("parameters that stay", plan.frozen),
            ("adapters, float32" if lora else "parameters that are trained, float32", plan.trained),
            ("optimiser state", plan.optimiser),
            ("copy of the weights that the engine reads", plan.published),
            ("reference, the weights that the run starts from", plan.reference),
            ("in the host's memory between uses", plan.on_host),
            ("gradient", plan.gradient),
            ("activations kept for the backward pass, at least", plan.kept),
            *_temporaries("a micro-batch", plan.gradients),
            *_temporaries("a pass without gradient", plan.forward),
            *_temporaries("the optimiser step", plan.apply)]
    drawn = [("KV pool, during rollouts", plan.kv), *_temporaries("decoding", plan.decode),
             *_temporaries("prefilling", plan.prefill)]
    peaks = [("peak of the update", plan.update_peak(True)), ("  below which no compiler gets", plan.floor)]
    rollouts = [("peak of the rollout", plan.rollout_peak(True))]
    if plan.drawing:
        copies = [("weights as they are published", plan.active_bytes)]
        return [*_lines(f"{plan.devices} x {name} that train", chip, rows + peaks),
                *_lines(f"{plan.drawing} x {name} that draw", chip, copies + drawn + rollouts)]
    return _lines(f"{plan.devices} x {name}", chip, rows + drawn + peaks + rollouts)


def _temporaries(of: str, program: Program) -> list[tuple[str, int]]:
    return [(f"temporaries of {of}", program.elsewhere),
            ("  and on a CPU also", program.temporary - program.elsewhere)]


def _lines(title: str, chip: Chip, rows: list[tuple[str, int]]) -> list[str]:
    always = {label for label, _ in rows} - {"  and on a CPU also",
                                             "copy of the weights that the engine reads",
                                             "reference, the weights that the run starts from",
                                             "in the host's memory between uses"}
    return [f"{title}, {chip.memory / GIB:.1f} GiB each, {chip.client_memory() / GIB:.1f} of them for JAX; "
            "per device:",
            *(f"  {label:52} {size / GIB:9.3f} GiB" for label, size in rows if size or label in always)]


def traffic_lines(plan: Plan) -> list[str]:
    """Bytes that the collectives move, and FLOPs."""
    def moved(collectives: Any):
        return ", ".join(f"{kind} {size / 2**20:,.1f} MiB"
                         for kind, size in collectives.items() if size) or "none"

    return [f"collectives per device: of a micro-batch {moved(plan.gradients.collectives)}; of an optimiser "
            f"step {moved(plan.apply.collectives)}; of a token of all {plan.slots} slots "
            f"{moved(plan.decode.collectives)}",
            f"model FLOPs of a micro-batch of {plan.tokens:,} tokens, all devices: {plan.flops:.3g}"]


def left_out(plan: Plan, config: Config) -> list[str]:
    """What the plan does not count, or counts as something else."""
    parts = [(config.mesh.transport == "ragged" and not plan.compiled_for,
              "mesh.transport = ragged, which cannot be compiled on a CPU, is counted as gather"),
             (bool(find_advantage(config.algorithm.advantage).critic),
              "the critic and its optimiser are not counted"),
             (config.moe.replay != "none",
              f"the expert ids that moe.replay = {config.moe.replay} brings along are not counted")]
    return [f"note: {text}." for there, text in parts if there]


@dataclasses.dataclass(frozen=True)
class Times:
    """Least seconds of a step's rollout, of its update and of both, its tokens, the steps of the whole run,
    and its devices."""
    rollout: float
    update: float
    step: float
    tokens: int
    steps: int
    devices: int

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.step

    @property
    def step_hours(self) -> float:
        """Device-hours of a step."""
        return self.step * self.devices / 3600

    @property
    def hours(self) -> float:
        """Device-hours of the whole run."""
        return self.steps * self.step_hours


def times(plan: Plan, config: Config, chip: Chip) -> Times:
    """Floors: products at the chip's peak, collectives at its links' speed, decoding at its memory's."""
    rollout = config.rollout
    algorithm = config.algorithm
    micro = max(plan.flops / plan.devices / chip.flops, sum(plan.gradients.collectives.values()) / chip.link)
    sequences = rollout.prompts_per_step * rollout.group_size
    tokens = sequences * longest_rollout(config)
    passes = (algorithm.epochs + (1 / 3 if algorithm.kl_coef > 0 else 0)
              + (1 / 3 if algorithm.epochs * algorithm.minibatches > 1 else 0))
    update = tokens / plan.tokens * micro * passes
    decode_step = max((plan.active_bytes + plan.kv / 2) / chip.bandwidth,
                      sum(plan.decode.collectives.values()) / chip.link)
    rollouts = rollout.max_tokens * -(-sequences // plan.slots) * decode_step if plan.slots else 0.0
    # rollouts that may be stale are drawn while the update runs
    step = max(rollouts, update) if plan.drawing and rollout.max_staleness else rollouts + update
    return Times(rollouts, update, step, tokens, config.train.steps, plan.devices + plan.drawing)


def time_lines(plan: Plan, config: Config, chip: Chip, name: str, rates: Rates) -> list[str]:
    floor = times(plan, config, chip)
    sequences = config.rollout.prompts_per_step * config.rollout.group_size
    return [f"time floor on {name} of a step of {sequences} completions at their longest: rollout "
            f"{f'{floor.rollout:,.1f} s' if plan.slots else 'on servers, not counted'}, "
            f"update {floor.update:,.1f} s; "
            f"{floor.tokens_per_s:,.0f} tokens/s at best",
            *cost_lines(floor.hours, floor.step_hours, config.train.steps, floor.devices, rates, least=True)]


def verdict(plan: Plan, config: Config, chip: Chip, name: str) -> str:
    """Fits or not, by the compiled programs without what only a CPU needs; and what to change."""
    room = chip.client_memory()
    update = plan.update_peak(True)
    rollouts = plan.rollout_peak(True)
    peaks = {"training ": update, "rollout ": rollouts} if plan.drawing else {"": max(update, rollouts)}
    said = [f"{role}FITS, {(room - peak) / GIB:.1f} GiB of {room / GIB:.1f} left" if peak <= room else
            f"{role}DOES NOT FIT: {peak / GIB:.1f} GiB of {room / GIB:.1f}" for role, peak in peaks.items()]
    change = "" if max(update, rollouts) <= room else f" Change {'; '.join(advice(plan, config, room))}."
    source = f"compiled for {plan.compiled_for}" if plan.compiled_for else f"derived on a CPU, for {name}"
    return f"{'plan' if plan.compiled_for else 'estimate'}: {'; '.join(said)} ({source}).{change}"


def advice(plan: Plan, config: Config, room: float) -> list[str]:
    """What to change where a plan does not fit into `room` bytes."""
    changes = []
    lora = config.lora.rank > 0
    if plan.resident + plan.gradient > 0.8 * room:
        if not lora and not plan.offload:
            changes.append("train.offload=optimizer" + (",reference" if plan.reference else ""))
        changes.append("a larger mesh.fsdp" + (
            " or mesh.tensor, a smaller lora.rank" if lora else ", mesh.expert or mesh.tensor"))
    if plan.update_peak(True) > room:
        fuller = {"none": ["train.remat=mlp or full"], "mlp": ["train.remat=full"]}
        changes += fuller.get(config.train.remat, [])
        changes.append("a smaller train.tokens_per_micro_batch")
    if plan.rollout_peak(True) > room:
        changes.append("rollout.kv_tokens, or fewer rollout.slots" + (
            ", or a larger rollout_mesh.fsdp or .tensor" if plan.drawing else ""))
    return changes
