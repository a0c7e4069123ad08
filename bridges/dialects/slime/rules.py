"""What slime's flags come to that are more than a number.

Most are effects of a key, as rows.Key has them: (its value, all that was given) -> our settings.
"""
import pathlib
from typing import Any

from bridges.dialects import rows
from bridges.dialects.counting import steps_of_passes
from bridges.dialects.kinds import Invalid
from bridges.dialects.rows import Effect, Inputs, Noted, Without
from bridges.dialects.slime.devices import row_parts
from jaxrl_moe.checks.megatron import described, is_megatron
from jaxrl_moe.types import Problem

_NONZERO = "check_reward_nonzero_std"  # slime's own filter of groups
_PROMPT = 512  # tokens of the longest prompt, where no flag says it
_KERNEL_PROMPT = 4096  # of one with a kernel's reference
_KERNELS = ("kernelbench", "kernelbench_multiturn")
_EVALUATION_SERVER = "http://127.0.0.1:18188"  # as slime's generators of this task have it
_KERNELS_WHY = ("timed on a GPU by scripts/serve.py kernels; without measure and url, Triton's interpreter "
                "judges on this machine, and speed is worth nothing")


def model(path: str, given: Inputs) -> dict[str, Any]:
    if "load" in given and _is_model(given["load"]):
        path = given["load"]
    shared = {"lora.rank": Noted(0, "slime trains all weights"), "model.dtype": "bfloat16"}
    if not path:
        return shared | {"model.path": Problem(
            "model.path", None, "is not given", "add --hf-checkpoint FOLDER")}
    return shared | {"model.path": path}


def _is_model(path: str) -> bool:
    """Whether a folder holds a Hugging Face model."""
    return (pathlib.Path(path).expanduser() / "config.json").is_file()


def load(path: str, given: Inputs) -> Without:
    """Weights to start from, which slime has as Megatron's checkpoints."""
    if path != given["hf-checkpoint"] and not _is_model(path):
        there = pathlib.Path(path).expanduser()
        found = f" (it holds {described(there)})" if is_megatron(there) else ""
        raise Invalid(f"is no folder of a Hugging Face model{found}, and Megatron's checkpoints are not read "
                      "here; to start from --hf-checkpoint instead would be another run",
                      "convert it, as slime's convert_*_megatron_to_hf.sh does, and name that folder")
    return Without("the weights that training starts from")


def reference(path: str, given: Inputs) -> Without:
    started = given["load"] or given["hf-checkpoint"]
    if path != started:
        raise Invalid(f"is another model than {started!r}, where training starts, and the reference is a "
                      "copy of that", "give both the same")
    return Without("the reference is a copy of what training starts from")


def rollouts(count: int | None, given: Inputs) -> dict[str, Any]:
    if count is None and "num-epoch" in given:
        return {}
    return {"train.steps": count or Problem("train.steps", None, "is not given", "add --num-rollout N")}


def epochs(count: int, given: Inputs) -> dict[str, Any] | Without:
    if "num-rollout" in given:
        return Without("--num-rollout says how many steps there are")
    return steps_of_passes("--num-epoch", count, given["prompt-data"], given["rollout-batch-size"])


def global_batch(size: int, given: Inputs) -> dict[str, Any]:
    total = given["rollout-batch-size"] * given["n-samples-per-prompt"]
    if total % size:
        raise Invalid(f"does not divide the {total} samples of --rollout-batch-size x --n-samples-per-prompt",
                      "choose a divisor")
    return {"algorithm.minibatches": total // size}


def _prompt(given: Inputs) -> int:
    return given["rollout-max-prompt-len"] or (_KERNEL_PROMPT if _of_kernels(given) else _PROMPT)


def _of_kernels(given: Inputs) -> bool:
    return (given["rollout-task-type"] or given["rm-type"]) in _KERNELS


def _longest(given: Inputs) -> int:
    return given["rollout-max-context-len"] or _prompt(given) + _all_turns(given)


def _all_turns(given: Inputs) -> int:
    return given["rollout-max-response-len"] * max(given["max-turns"], 1)


def micro_batch(sequences: int, given: Inputs) -> dict[str, Any] | Without:
    if "max-tokens-per-gpu" in given:
        return Without("--max-tokens-per-gpu bounds a micro-batch")
    if not given["rollout-max-response-len"]:
        return Without("--rollout-max-response-len is not given")
    return {"train.tokens_per_micro_batch": sequences * _longest(given) * row_parts(given)}


def tokens_per_gpu(tokens: int, given: Inputs) -> dict[str, Any]:
    whole = max(tokens * given["context-parallel-size"], _longest(given))
    return {"train.tokens_per_micro_batch": whole * row_parts(given)}


def prompt_data(path: str, given: Inputs) -> dict[str, Any]:
    return {"data.path": path or Problem("data.path", None, "is not given", "add --prompt-data FILE.jsonl")}


def seed(value: int, given: Inputs) -> dict[str, Any] | Without:
    return Without("--seed is that of all") if "seed" in given else {"seed": value}


def prompt_length(tokens: int, given: Inputs) -> dict[str, Any]:
    return {"data.max_prompt_tokens": tokens}


def response_length(tokens: int, given: Inputs) -> dict[str, Any]:
    if not tokens:
        return {"rollout.max_tokens": Problem("rollout.max_tokens", None, "is not given",
                                              "add --rollout-max-response-len N")}
    turns = {} if given["max-turns"] < 2 or given["rollout-max-context-len"] else {
        "episodes.max_tokens": Noted(_all_turns(given), "as many tokens for each of --max-turns")}
    return {"rollout.max_tokens": tokens} | turns


def context(tokens: int, given: Inputs) -> dict[str, Any] | Without:
    if given["max-turns"] < 2:
        return Without("--rollout-max-prompt-len and --rollout-max-response-len bound an episode of one turn")
    return {"episodes.max_tokens": tokens - _prompt(given)}


def top_k(value: int, given: Inputs) -> dict[str, Any]:
    return {"rollout.top_k": max(value, 0)}


def dynamic(path: str, given: Inputs) -> dict[str, Any]:
    if path.rpartition(".")[2] != _NONZERO:
        raise Invalid("names another filter than the one that is known here",
                      f"leave it out, or give {_NONZERO}")
    return {"rollout.dynamic_sampling": True}


def turns(count: int, given: Inputs) -> dict[str, Any] | Without:
    if count < 2:
        return Without("an episode of one turn")
    where = "" if _of_kernels(given) else "; the number of turns is the task's own setting"
    return {"algorithm.returns": Noted("trajectory", f"r1 + gamma r2 + gamma^2 r3{where}")}


def task(name: str, given: Inputs) -> dict[str, Any]:
    wanted = given["rollout-task-type"] or name
    if wanted in _KERNELS:
        prompts = {} if "rollout-max-prompt-len" in given else {"data.max_prompt_tokens": Noted(
            _KERNEL_PROMPT, "slime has no limit; a reference's source and an example fit, longer rows are "
                            "left out")}
        return prompts | {"env.name": Noted(f"triton_kernels(max_turns={given['max-turns']}, measure=true, "
                                            f"url='{_EVALUATION_SERVER}')", _KERNELS_WHY)}
    named = f"slime's task {wanted!r} is none here" if wanted else "slime has it as functions of one's own"
    turns_of = f"(max_turns={given['max-turns']})" if given["max-turns"] > 1 else ""
    return {"env.name": Problem("env.name", None, f"is not known: {named}",
                                f"give --config.env.name=TASK{turns_of}, see docs/extending/task.md")}


def held_out(words: tuple[str, ...], given: Inputs) -> dict[str, Any]:
    if len(words) != 2:
        raise Invalid("needs the name of one data set and its file", "write --eval-prompt-data NAME FILE")
    return {"data.eval_path": words[1]}


def with_held_out(setting: str) -> Effect:
    """A setting of evaluations, which need held-out prompts."""
    def effect(value: Any, given: Inputs) -> dict[str, Any] | Without:
        return {setting: value} if "eval-prompt-data" in given else Without("there is no --eval-prompt-data")
    return effect


def as_in_training(name: str) -> Effect:
    """Evaluations draw as the training does."""
    return rows.as_in_training(name, f"--{name}", "give both the same, or leave it out")


def no_first_evaluation(value: bool, given: Inputs) -> dict[str, Any] | Without:
    return with_held_out("eval.at_start")(False, given)


def wandb(value: bool, given: Inputs) -> dict[str, Any]:
    return {"logging.wandb_project": given["wandb-project"]}
