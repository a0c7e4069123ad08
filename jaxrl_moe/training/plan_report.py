"""A plan in words: bytes per device, times, cost, and whether it fits."""
import json
import pathlib

from jaxrl_moe.config import Config
from jaxrl_moe.distributed.chips import Chip, find_chip
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.training.plan import Plan, make_plan
from jaxrl_moe.types import UserError

RESERVED = 0.06  # of a chip's memory, for the runtime, its libraries and fragmentation


def text(config: Config, *, chip: str, chips: str | None = None, price: float = 0.0, shape: str | None = None) -> str:
    """The plan of a run on the devices that JAX has.

    Args:
      config: resolved.
      chip, chips: see find_chip.
      price: of a device for an hour; 0 for none.
      shape: path of a config.json; None: that of model.path, a folder.

    Raises:
      UserError: unknown chip, no config.json, or a mesh that does not fit.
    """
    found = find_chip(chip, chips)
    path = pathlib.Path(shape or pathlib.Path(config.model.path) / "config.json")
    if not path.exists():
        raise UserError(f"{path} is not there: give --model_config=FILE, such as configs/shapes/qwen3_30b_a3b.json, or a model.path that "
                        "is a folder with a config.json.")
    model = ModelConfig.from_hf(json.loads(path.read_text()))
    plan = make_plan(config, model)
    return "\n".join([*memory_lines(plan, found, chip), *time_lines(plan, config, found, price), verdict(plan, config, found, chip)])


def memory_lines(plan: Plan, chip: Chip, name: str) -> list[str]:
    rows = [("frozen weights", plan.frozen), ("trained arrays, float32", plan.trained), ("optimiser state", plan.optimiser),
            ("gradient", plan.gradient), ("kept for the backward pass, at least", plan.kept),
            ("temporaries of the update, as compiled on CPU", plan.temporary), ("KV pool, during rollouts", plan.kv),
            ("temporaries of decoding, as compiled on CPU", plan.decode_temporary), ("peak of the update", plan.update_peak),
            ("peak of the rollout", plan.rollout_peak)]
    return [f"{plan.devices} x {name}, {chip.memory / 2**30:.1f} GiB each; per device:",
            *(f"  {label:48} {size / 2**30:9.3f} GiB" for label, size in rows)]


def time_lines(plan: Plan, config: Config, chip: Chip, price: float) -> list[str]:
    """Floors: products at the chip's peak, collectives at its links' speed, decoding at its memory's."""
    rollout, algorithm = config.rollout, config.algorithm
    moved = sum(plan.collectives.values())
    micro = max(plan.flops / plan.devices / chip.flops, moved / chip.link)
    sequences = rollout.prompts_per_step * rollout.group_size
    tokens = sequences * (config.data.max_prompt_tokens + rollout.max_tokens)
    passes = algorithm.epochs + (1 / 3 if algorithm.kl_coef > 0 else 0) + (1 / 3 if algorithm.epochs * algorithm.minibatches > 1 else 0)
    update = tokens / plan.tokens * micro * passes
    decode_step = max((plan.active_bytes + plan.kv / 2) / chip.bandwidth, sum(plan.decode_collectives.values()) / chip.link)
    rollouts = rollout.max_tokens * -(-sequences // plan.slots) * decode_step if plan.slots else 0.0
    step, kinds = update + rollouts, ", ".join(f"{kind} {size / 2**20:,.0f} MiB" for kind, size in plan.collectives.items() if size)
    hours = config.train.steps * step * plan.devices / 3600
    lines = [f"collectives of a micro-batch, per device: {kinds or 'none'}",
             f"model FLOPs of a micro-batch of {plan.tokens:,} tokens, all devices: {plan.flops:.3g}",
             f"time floor of a step of {sequences} completions at their longest: rollout "
             f"{f'{rollouts:,.1f} s' if plan.slots else 'on servers, not counted'}, update {update:,.1f} s; "
             f"{tokens / step:,.0f} tokens/s at best",
             f"whole run of {config.train.steps} steps: at least {hours:,.1f} device-hours" + (
                 f", {hours * price:,.0f} at {price:g} an hour" if price else "")]
    return lines


def verdict(plan: Plan, config: Config, chip: Chip, name: str) -> str:
    """Fits or not, by the compiled programs; and what to change."""
    room = chip.memory * (1 - RESERVED)
    update, rollouts = plan.update_peak, plan.rollout_peak
    if max(update, rollouts) <= room:
        left = room - max(update, rollouts)
        return f"estimate: FITS, {left / 2**30:.1f} GiB of {room / 2**30:.1f} left (derived on a CPU, for {name})."
    advice = []
    if update > room:
        if config.train.remat == "none":
            advice.append("train.remat=full")
        advice.append("a smaller train.tokens_per_micro_batch")
    if rollouts > room:
        advice.append("rollout.kv_tokens, or fewer rollout.slots")
    if plan.frozen + plan.trained + plan.optimiser + plan.gradient > 0.8 * room:
        advice.append("a larger mesh.fsdp" + (", mesh.expert" if plan.frozen else "") + " or mesh.tensor, a smaller lora.rank")
    return (f"estimate: DOES NOT FIT: {max(update, rollouts) / 2**30:.1f} GiB of {room / 2**30:.1f} (derived on a CPU, for {name}). "
            f"Change {'; '.join(advice)}.")
