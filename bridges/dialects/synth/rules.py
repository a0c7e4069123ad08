"""What several keys of synth-ai's TOML come to together.

Most are effects of a key, as rows.Key has them: (its value, all that was given) -> our settings.
"""
from collections.abc import Iterable
from typing import Any

from bridges.dialects.kinds import Invalid
from bridges.dialects.rows import Effect, Inputs, Noted, Without
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.types import Problem, UserError

SEEDS = 1000  # synth-ai's trainer draws seeds as it likes; here those below this that are not held out
# keys as settings of the task app's client
_APP = {"rollout.env_name": "env_name", "rollout.policy_name": "policy_name",
        "rollout.max_turns": "max_turns", "rollout.max_concurrent_rollouts": "max_concurrent_rollouts",
        "model.label": "run"}
_JUDGE = {"judge.api_key_env": "judge_key_env", "judge.options.provider": "judge_provider",
          "judge.options.model": "judge_model", "judge.options.rubric_id": "rubric_id",
          "judge.options.event": "judge_turns", "judge.options.timeout_s": "judge_timeout"}


def algorithm(variety: str, given: Inputs) -> dict[str, Any]:
    method = given["algorithm.method"]
    if method in ("gspo", "grpo") and "algorithm.variety" in given and method != variety:
        raise Invalid(f"contradicts algorithm.method = {method!r}", "leave one of them out")
    named = method if method in ("gspo", "grpo") else variety
    loss = {"gspo": "gspo", "grpo": "clipped_surrogate"}[named]
    return {"algorithm.advantage": "grpo", "algorithm.loss": loss,
            "algorithm.kl_coef": Noted(0.0, "no KL to a reference has a weight in this dialect")}


def task_app(url: str, given: Inputs) -> dict[str, Any]:
    """env.name with the settings of the task app's client, and the endpoint at which it finds the policy."""
    served = {"endpoint.serve": Noted(True, "where the task app finds the policy"),
              "data.seeds": Noted(_training_seeds(given), "the task app's, but for those held out")}
    if not url:
        return served | {"env.name": Problem(
            "env.name", None, "needs the task app's URL, and there is no services.task_url",
            "add --task-url=http://localhost:8101, or [services] task_url")}
    app = {name: given[key] for key, name in _APP.items() if key in given}
    settings = {"url": _checked(url, "services.task_url")} | app | _reward(given) | _judge(given)
    return served | {"env.name": _spec(settings)}


def _reward(given: Inputs) -> dict[str, Any]:
    """Which of the app's numbers is the reward."""
    if _stepwise(given):
        return {"by_calls": True}
    if blends(given):
        return {"reward": "return"}
    return {} if "services.judge_url" in given else {"reward": "outcome"}


def _judge(given: Inputs) -> dict[str, Any]:
    if "services.judge_url" not in given:
        return {}
    asked = {name: given[key] for key, name in _JUDGE.items() if key in given}
    url = _checked(given["services.judge_url"], "services.judge_url")
    return {"judge_url": url.removesuffix("/api")} | asked  # the path that is called begins with /api


def asked_judge(value: Any, given: Inputs) -> dict[str, Any] | Without:
    """A setting of the judge that the run asks, which env.name has; a task app's own judge knows it."""
    return {} if "services.judge_url" in given else Without("the task app asks a judge of its own")


def _checked(url: str, key: str) -> str:
    try:
        return checked_url(url, key, "http://host:port")
    except UserError as error:
        raise Invalid("is no address of a server", "write http://host:port") from error


def _spec(settings: dict[str, Any]) -> str:
    return f"task_app({', '.join(f'{name}={value!r}' for name, value in settings.items())})"


def _training_seeds(given: Inputs) -> str:
    held_out = set(given["evaluation.seeds"] or ())
    return seeds_text(seed for seed in range(SEEDS) if seed not in held_out)


def seeds_text(seeds: Iterable[int]) -> str:
    """Seeds as text: "0-4,7"."""
    spans: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def model(path: str, given: Inputs) -> dict[str, Any]:
    if "model.base" in given and "model.source" in given:
        raise Invalid("is given, and the other of model.base and model.source, too", "leave one of them out")
    if path.startswith(("ft:", "fft:", "qft:")):
        raise Invalid("is a model in synth-ai's cloud", "export it there, and name the folder or hub name")
    return {"model.path": path,
            "train.remat": Noted("full", "the backward pass computes layers again: memory before speed")}


def trainer_mode(mode: str, given: Inputs) -> dict[str, Any]:
    if mode == "qlora":
        raise Invalid("needs a quantised base model, which is not there yet",
                      "give lora: the base stays in bfloat16, 57 GiB of 30 B parameters")
    return {"lora.rank": 0} if mode == "full" else {}  # rank is lora.r


def adapters(key: str, setting: str) -> Effect:
    """A setting of the adapters; refused where all weights are trained."""
    def effect(value: Any, given: Inputs) -> dict[str, Any] | Without:
        if given["model.trainer_mode"] != "full":
            return {setting: value}
        if key not in given:
            return Without("all weights are trained")
        raise Invalid("concerns adapters, and model.trainer_mode = 'full' trains all weights",
                      "leave the section lora out, or give trainer_mode lora")
    return effect


def label(name: str, given: Inputs) -> dict[str, Any]:
    if "/" in name or name in (".", ".."):
        raise Invalid("cannot name a folder", "leave slashes out")
    return {"run_dir": f"runs/{name}"}


def episodes(per_batch: int, given: Inputs) -> dict[str, Any]:
    batches = given["rollout.batches_per_step"]
    group = given["training.group_size"]
    total = per_batch * batches
    if total % group:
        raise Invalid(f"x rollout.batches_per_step = {batches} makes {total} episodes a step, which groups "
                      f"of training.group_size = {group} do not divide", "change one of them, as to "
                      f"{-(-total // group) * group} episodes in all")
    return {"rollout.prompts_per_step": total // group, "rollout.group_size": group}


def _episodes(given: Inputs) -> int:
    return (given["rollout.episodes_per_batch"] or 0) * given["rollout.batches_per_step"]


def steps(epochs: int, given: Inputs) -> dict[str, Any]:
    return {"train.steps": epochs * given["training.iterations_per_epoch"],
            "checkpoint.every": Noted(1, "judges have waited for every step: none is lost")}


def micro_batch(sequences: int, given: Inputs) -> dict[str, Any]:
    gpus = given["topology.gpus_for_training"] or 1
    return {"train.tokens_per_micro_batch": sequences * given["vllm.max_model_len"] * gpus}


def accumulation(count: int, given: Inputs) -> dict[str, Any] | Without:
    total = _episodes(given)
    update = count * given["training.batch_size"] * (given["topology.gpus_for_training"] or 1)
    if not total or update >= total:
        return Without("an update takes all episodes of a step, which are no more")
    if total % update:
        raise Invalid(f"x training.batch_size makes updates of {update} episodes, which do not divide the "
                      f"{total} of a step", "change one of them")
    return {"algorithm.minibatches": total // update}


def trained_turns(turns: int, given: Inputs) -> Without:
    allowed = given["rollout.max_turns"]
    if allowed and turns < allowed:
        raise Invalid(f"is below rollout.max_turns = {allowed}, and all turns that are played are trained",
                      "give both the same number")
    return Without("rollout.max_turns bounds an episode, and all its turns are trained")


def step_rewards(enabled: bool, given: Inputs) -> dict[str, Any] | Without:
    weight = given["training.step_rewards_indicator_lambda"]
    if not _stepwise(given):
        return Without("step rewards are off" if weight else "step_rewards_indicator_lambda = 0 pays nothing")
    if blends(given):
        raise Invalid("pays single turns, and the weights of [rubric] or [judge] blend numbers of the whole "
                      "episode: a reward is one of the two here", "set it to false, or leave the weights out")
    return {"algorithm.step_rewards": "decision_stepwise", "algorithm.step_lambda": weight,
            "algorithm.returns": "trajectory", "algorithm.turn_gamma": 1.0}


def _stepwise(given: Inputs) -> bool:
    wanted = given["training.step_rewards_enabled"] and given["training.step_rewards_mode"] != "off"
    return bool(wanted and given["training.step_rewards_indicator_lambda"])


def blends(given: Inputs) -> bool:
    """Whether weights of [rubric] or [judge] blend rewards."""
    return "rubric.weights.env" in given and given["rubric.enabled"] is not False


def blend(weight: float, given: Inputs) -> dict[str, Any] | Without:
    if not blends(given):
        return Without("enabled = false")
    judged = (given["rubric.weights.event"], given["rubric.weights.outcome"])
    return {"algorithm.reward_blend": (weight, *judged)}


def nothing_to_send(config: dict[str, Any], given: Inputs) -> Without:
    if config:
        raise Invalid("would go to the task app with each rollout, which its client cannot send yet",
                      "set it in the task app, and leave it out here")
    return Without("it is empty")


def evaluation_seeds(seeds: tuple[int, ...], given: Inputs) -> dict[str, Any]:
    if not seeds:
        raise Invalid("is empty", "name some seeds, or leave it out")
    if len(set(seeds)) < len(seeds):
        raise Invalid("names a seed twice", "name each once")
    return {"data.eval_seeds": seeds_text(seeds),
            "eval.at_start": Noted(False, "judges are not asked before the first step")}


def instances(count: int, given: Inputs) -> dict[str, Any]:
    seeds = given["evaluation.seeds"] or ()
    if count > len(seeds):
        raise Invalid(f"is more than the {len(seeds)} of evaluation.seeds", "name as many seeds, or lower it")
    return {"eval.prompts": count}


def every(steps_between: int, given: Inputs) -> dict[str, Any]:
    if "evaluation.seeds" not in given:
        raise Invalid("says when, and there are no evaluation.seeds", "name seeds to evaluate on")
    return {"eval.every": steps_between}


def context(tokens: int, given: Inputs) -> dict[str, Any]:
    prompt = tokens // 8
    rest = tokens - prompt
    longest = given["rollout.policy_config.max_tokens"] or tokens * 3 // 4
    if longest > rest:
        raise Invalid(f"leaves {rest} tokens for all turns, and an answer may have {longest} "
                      "(rollout.policy_config.max_tokens)", "raise it, or lower max_tokens")
    return {"data.max_prompt_tokens": prompt, "rollout.max_tokens": longest, "episodes.max_tokens": rest}


def training_gpus(count: int, given: Inputs) -> dict[str, Any] | Without:
    return {"mesh.fsdp": count} if count > 1 else Without("one device")
