"""Settings that contradict each other, as far as it needs no model, data or table of names to see."""
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any


def problems(config) -> Iterator[str]:
    """Yields the settings of a Config, whose values are allowed one by one, that contradict each other."""
    yield from _bad_targets(config.lora.targets)
    yield from (message for wrong, message in [*_contradictions(config), *_idle(config)] if wrong)


def changed(section: Any, name: str) -> bool:
    """Whether a setting of a section differs from its default."""
    return getattr(section, name) != next(field.default for field in dataclasses.fields(section) if field.name == name)


def _idle(config) -> list[tuple[bool, str]]:
    """(does it differ from its default without effect?, what to do about it) for sections that another setting turns off."""
    off = {"scratch": (config.scratch.vocab_size == 0, "scratch.vocab_size = 0 makes no model: set scratch.vocab_size, such as 1024"),
           "lora": (config.lora.rank == 0, "lora.rank = 0 trains all weights: set lora.rank above 0"),
           "endpoint": (not config.endpoint.serve, "endpoint.serve is false: set endpoint.serve=true")}
    names = {"scratch": [field.name for field in dataclasses.fields(config.scratch)], "lora": ["alpha", "rslora", "dropout"],
             "endpoint": ["host", "port", "api_key_env", "queue"]}
    return [(idle and changed(getattr(config, section), name),
             f"{section}.{name} = {getattr(getattr(config, section), name)!r} has no effect, as {reason}, or leave {section}.{name} out.")
            for section, (idle, reason) in off.items() for name in names[section]]


def idle_exchange(mesh: Any) -> Iterator[str]:
    """Yields settings of how tokens travel to their experts that have no effect where mesh.expert is 1, or turns out to be."""
    one = "mesh.expert = 1" if mesh.expert == 1 else f"mesh.expert = {mesh.expert}, here 1,"
    for name in ("transport", "capacity_factor", "host_devices"):
        if changed(mesh, name):
            yield (f"mesh.{name} = {getattr(mesh, name)!r} has no effect, as {one} keeps all experts on each device: set mesh.expert "
                   f"above 1, or leave mesh.{name} out.")


def _bad_targets(targets) -> Iterator[str]:
    for target in targets:
        try:
            re.compile(target)
        except re.error as error:
            yield (f"lora.targets holds {target!r}, which is neither a layer's name nor a regular expression ({error}): name "
                   "layers such as q_proj,v_proj, use all-linear, or write an expression such as .*_proj.")


def rl_problems(config) -> Iterator[str]:
    """Yields what stands in the way of an RL phase, and of nothing else."""
    budget, longest = config.train.tokens_per_micro_batch, config.data.max_prompt_tokens + config.rollout.max_tokens
    if budget < longest:
        yield (f"train.tokens_per_micro_batch = {budget} cannot hold the longest sequence: data.max_prompt_tokens + "
               f"rollout.max_tokens = {longest}. Raise it or lower those.")
    prompts, group, minibatches = config.rollout.prompts_per_step, config.rollout.group_size, config.algorithm.minibatches
    if prompts * group % minibatches:
        yield (f"algorithm.minibatches = {minibatches} does not divide the batch of rollout.prompts_per_step x "
               f"rollout.group_size = {prompts} x {group} sequences: choose a divisor.")


def sft_problems(config) -> Iterator[str]:
    """Yields what stands in the way of an SFT phase, and of nothing else."""
    budget, longest = config.train.tokens_per_micro_batch, config.sft.max_tokens
    if budget < longest:
        yield (f"train.tokens_per_micro_batch = {budget} cannot hold the longest conversation: sft.max_tokens = {longest}. "
               "Raise it or lower that.")


def _contradictions(config) -> Iterator[tuple[bool, str]]:
    """(is it wrong?, what is wrong and how to mend it) for settings that cannot work together."""
    for section in (_of_mesh, _of_model, _of_adapters, _of_rollout, _of_algorithm, _of_phases):
        yield from section(config)


def _of_mesh(config):
    return [
        *((config.mesh.expert == 1, message) for message in idle_exchange(config.mesh)),
        (config.mesh.expert == 1 and config.mesh.dispatch in ("ipc", "hybrid"),
         f"mesh.dispatch = {config.mesh.dispatch!r} sends tokens over the expert axis, and mesh.expert = 1: set mesh.expert above 1, or "
         "mesh.dispatch=auto."),
        (config.mesh.transport == "ragged" and config.mesh.dispatch == "hybrid",
         "mesh.transport = 'ragged' goes in one stage, and mesh.dispatch = 'hybrid' asks for two: use gather or capacity, or ipc."),
        ((config.mesh.transport == "capacity") != (config.mesh.capacity_factor > 0),
         f"mesh.transport = {config.mesh.transport!r} with mesh.capacity_factor = {config.mesh.capacity_factor}: a capacity needs "
         "both, such as transport capacity and a factor of 1.25; the others need neither."),
        (config.mesh.pipeline != 1,
         f"mesh.pipeline = {config.mesh.pipeline}: layers are not split into the stages of a pipeline. Set mesh.pipeline=1, and split the "
         "weights by mesh.fsdp (layer by layer, the nearest to it), mesh.expert or mesh.tensor, with train.remat=full for activations; "
         "mesh.data=-1 or mesh.fsdp=-1 takes the devices that are left."),
    ]


def _of_model(config):
    return [
        (0 < config.scratch.vocab_size < 260,
         f"scratch.vocab_size = {config.scratch.vocab_size} is too small: 256 bytes and 4 special tokens take 260."),
        (config.scratch.num_heads % config.scratch.num_kv_heads > 0,
         f"scratch.num_kv_heads = {config.scratch.num_kv_heads} does not divide scratch.num_heads = "
         f"{config.scratch.num_heads}."),
        (0 < config.scratch.num_experts < config.scratch.num_experts_per_tok,
         f"scratch.num_experts_per_tok = {config.scratch.num_experts_per_tok} exceeds scratch.num_experts = "
         f"{config.scratch.num_experts}."),
    ]


def _of_adapters(config):
    algorithm, train, moe = config.algorithm, config.train, config.moe
    return [
        (config.lora.rank > 0 and not config.lora.targets,
         "lora.targets is empty while lora.rank > 0: name layers such as q_proj,v_proj or all-linear, or set "
         "lora.rank=0 to train all weights."),
        ("reference" in train.offload and (config.lora.rank > 0 or algorithm.kl_coef == 0),
         f"train.offload names 'reference', and this run keeps none: lora.rank = {config.lora.rank}, algorithm.kl_coef = "
         f"{algorithm.kl_coef:g}. Adapters are left out for their reference. Leave it out of train.offload, or set lora.rank=0 and "
         "algorithm.kl_coef above 0."),
        (moe.router == "train" and config.lora.rank > 0 and algorithm.kl_coef > 0,
         "moe.router = 'train' moves the routers, which the reference policy (the same weights with adapters off) shares, so "
         f"algorithm.kl_coef = {algorithm.kl_coef} would measure against a moving reference: set algorithm.kl_coef=0, or "
         "moe.router=freeze."),
        (moe.bias_rate > 0 and algorithm.kl_coef > 0 and config.lora.rank > 0,
         f"moe.bias_rate = {moe.bias_rate} moves the routers' selection bias, which the reference policy shares, so "
         f"algorithm.kl_coef = {algorithm.kl_coef} would measure against a moving reference: set algorithm.kl_coef=0, or "
         "moe.bias_rate=0."),
        (moe.replay == "r2" and algorithm.bypass,
         "moe.replay = 'r2' takes the routes of the old-logprob pass, which algorithm.bypass leaves out: set moe.replay=r3, or "
         "algorithm.bypass=false."),
    ]


def _of_rollout(config):
    rollout = config.rollout
    longest, page = config.data.max_prompt_tokens + rollout.max_tokens, rollout.page_size
    return [
        (page & (page - 1) > 0, f"rollout.page_size = {page} is not a power of two: use one, such as 32."),
        (config.endpoint.serve and rollout.backend != "jax",
         f"endpoint.serve is for the engine in this process, and rollout.backend = {rollout.backend!r} draws on servers, which can "
         "be asked themselves: set endpoint.serve=false, or rollout.backend=jax."),
        (config.endpoint.serve and rollout.max_staleness > 0,
         f"endpoint.serve shares the engine with rollouts that wait for it, and rollout.max_staleness = {rollout.max_staleness} "
         "draws ahead: set rollout.max_staleness=0, or endpoint.serve=false."),
        (0 < rollout.kv_tokens < longest + page,
         f"rollout.kv_tokens = {rollout.kv_tokens} cannot hold even one sequence: data.max_prompt_tokens + "
         f"rollout.max_tokens = {longest} and one page of {page}. Raise it, or set 0 to size the pool by itself."),
    ]


def _of_algorithm(config):
    algorithm = config.algorithm
    return [
        (bool(algorithm.reward_blend) and (len(algorithm.reward_blend) != 3 or not all(map(math.isfinite, algorithm.reward_blend))),
         f"algorithm.reward_blend = {','.join(f'{weight:g}' for weight in algorithm.reward_blend)} must be three weights, of the "
         "reward, of the event judge's and of the outcome judge's number, such as 0.3,0.3,0.4; or empty."),
        (algorithm.truncated == "penalise" and algorithm.truncated_penalty == 0,
         "algorithm.truncated = 'penalise' with algorithm.truncated_penalty = 0 penalises nothing: set the penalty, or "
         "use 'keep'."),
        (algorithm.truncated != "penalise" and algorithm.truncated_penalty > 0,
         f"algorithm.truncated_penalty = {algorithm.truncated_penalty} has no effect under algorithm.truncated = "
         f"{algorithm.truncated!r}: set algorithm.truncated=penalise, or the penalty to 0."),
    ]


def _of_phases(config):
    train, sft = config.train, config.sft
    return [
        (not config.run_dir, "run_dir is empty: name the folder that logs and checkpoints go to, such as runs/first."),
        (sft.steps > 0 and sft.epochs > 0,
         f"sft.steps = {sft.steps} and sft.epochs = {sft.epochs} both say how long SFT runs: set one of them to 0."),
        (sft.stop_at_accuracy > 0 and sft.eval_every == 0,
         f"sft.stop_at_accuracy = {sft.stop_at_accuracy} needs evaluations during SFT: set sft.eval_every to a number "
         "of steps."),
        (not sft.full and config.lora.rank == 0,
         "sft.full = false trains the adapters of the lora section, and lora.rank = 0 makes none: set lora.rank above 0, or "
         "sft.full=true."),
        *((value > 0 and not config.data.eval_path,
           f"{key} = {value} has no effect, as data.eval_path names no held-out prompts: give it a path, or set {key}=0.")
          for key, value in (("eval.every", config.eval.every), ("sft.eval_every", sft.eval_every),
                             ("sft.stop_at_accuracy", sft.stop_at_accuracy))),
        (config.logging.profile_start >= max(train.steps, 1),
         f"logging.profile_start = {config.logging.profile_start} lies beyond train.steps = {train.steps}: the profiler "
         "would never open."),
    ]
