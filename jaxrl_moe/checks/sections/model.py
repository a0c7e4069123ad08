"""The model and critic that a run starts from: impossible sizes, files not whole, adapters that misfit."""
import dataclasses
import pathlib
from collections.abc import Iterator

from jaxrl_moe.checks.megatron import described, is_megatron
from jaxrl_moe.checks.problems import as_problem, idle, told
from jaxrl_moe.checks.sections import learner
from jaxrl_moe.checks.start import Start
from jaxrl_moe.config import Config
from jaxrl_moe.learning.make import lora_config
from jaxrl_moe.phases import longest_named, longest_rollout
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.types import Problem, UserError


def contradictions(config: Config) -> Iterator[Problem]:
    """Yields settings of a model from scratch that cannot work together, in whatever phase."""
    scratch = config.scratch
    if scratch.vocab_size == 0:
        names = [field.name for field in dataclasses.fields(scratch)]
        yield from idle("scratch", scratch, names, ", as scratch.vocab_size = 0 makes no model",
                        "set scratch.vocab_size, such as 1024")
    if 0 < scratch.vocab_size < 260:
        yield Problem("scratch.vocab_size", scratch.vocab_size, "is too small",
                      "give room to 256 bytes and 4 special tokens, which take 260")
    if scratch.num_heads % scratch.num_kv_heads:
        yield Problem("scratch.num_kv_heads", scratch.num_kv_heads,
                      f"does not divide scratch.num_heads = {scratch.num_heads}", "choose a divisor")
    if 0 < scratch.num_experts < scratch.num_experts_per_tok:
        yield Problem("scratch.num_experts_per_tok", scratch.num_experts_per_tok,
                      f"exceeds scratch.num_experts = {scratch.num_experts}", "lower it to that")


def problems(start: Start) -> Iterator[Problem]:
    """Yields what is wrong with the model's files, up to their headers, and sequences that it cannot hold."""
    path = start.config.model.path
    if is_megatron(pathlib.Path(path)):
        yield Problem("model.path", path, f"is a checkpoint of Megatron's ({described(pathlib.Path(path))}), "
                      "which is not read here", "convert it to Hugging Face's format, as slime's "
                      "convert_*_megatron_to_hf.sh does, and name that folder")
        return
    try:
        _ = start.model
        if not start.makes_model:
            start.bridge.check_tensors(path)
    except (UserError, OSError) as error:
        yield as_problem("model.path", path, error)
        return
    yield from too_long(start)
    if start.adapter:
        yield from told("--adapter", start.adapter, lambda: start.bridge.read_lora(start.adapter))


def too_long(start: Start) -> Iterator[Problem]:
    """Yields sequences that the model's context cannot hold."""
    longest = {}
    if start.draws:
        longest[longest_named(start.config)] = longest_rollout(start.config), start.model.drawn_context
    if start.sft:
        longest["sft.max_tokens"] = start.config.sft.max_tokens, start.model.context
    for fields, (tokens, context) in longest.items():
        if tokens > context:
            yield Problem(fields, tokens, "is too long, as the context of the model "
                          f"{start.config.model.path!r} holds {context} tokens (max_position_embeddings in "
                          "its config.json, and the scaling of its rotary embeddings; or scratch.context for "
                          "a model that is still to be made)",
                          f"lower {fields.replace(' + ', ' or ')}, or take a model with a longer context")


def adapter_problems(start: Start) -> Iterator[Problem]:
    """Yields LoRA targets that match nothing, or that could not be exported after the training."""
    if start.config.lora.rank and not start.given:
        yield from told("lora.targets", start.config.lora.targets,
                        lambda: start.bridge.check_adapters(start.model, lora_config(start.config)))


def critic_problems(start: Start) -> Iterator[Problem]:
    """Yields why a critic that the run is to start from does not fit the model or the advantage."""
    path = start.config.critic.path
    advantage = start.config.algorithm.advantage
    kind = find_advantage(advantage).critic
    size = start.model.hidden_size
    if not kind or not path or start.given:
        return
    try:
        critic = start.bridge.load_critic(path)
    except (UserError, OSError) as error:
        yield as_problem("critic.path", path, error)
        return
    if critic.head.hidden_size != size:
        yield Problem("critic.path", path, f"holds a critic for hidden states of {critic.head.hidden_size} "
                      f"numbers, and those of {start.config.model.path!r} have {size}",
                      "give one that was trained on this model, or leave it empty")
    if critic.kind != kind:
        yield Problem("critic.path", path, f"holds a {critic.kind!r} critic, and algorithm.advantage = "
                      f"{advantage!r} needs a {kind!r} one, whose values mean something else",
                      "give one of that kind, or leave it empty")


def router_problems(start: Start) -> Iterator[Problem]:
    """Yields settings of the moe section that the model cannot follow."""
    if not start.given:
        yield from learner.router_problems(start.config, start.model)
