"""slime's flags of the algorithm and of Megatron's optimiser.

Most are effects of a key, as rows.Key has them: (its value, all that was given) -> our settings.
"""
from typing import Any

from bridges.dialects.kinds import FLAG, TEXT, Invalid, integer, number, one_of, only
from bridges.dialects.rows import Effect, Inputs, Key, Noted, Table, Without, beside, unused

_ADVANTAGES = {"grpo": "grpo", "gspo": "grpo", "cispo": "grpo", "reinforce_plus_plus": "reinforce_pp",
               "reinforce_plus_plus_baseline": "reinforce_pp_baseline", "ppo": "gae"}
_ESTIMATORS = {"k1": "k1", "kl": "k1", "k2": "k2", "k3": "k3", "low_var_kl": "k3"}
_DEFAULT_KL = "k3"  # slime's own, k1, has no gradient on average; its scripts say low_var_kl
PER_TOKEN = ("ppo", "reinforce_plus_plus")  # estimators with a discount per token


def _advantage(name: str, given: Inputs) -> dict[str, Any]:
    plain = given["disable-grpo-std-normalization"] and _ADVANTAGES[name] == "grpo"
    loss = {"gspo": "gspo", "cispo": _cispo(given)}.get(name, _clipped(given))
    settings = {"algorithm.advantage": "dr_grpo" if plain else _ADVANTAGES[name], "algorithm.loss": loss,
                "algorithm.aggregation": _aggregation(name, given)}
    if name == "cispo":
        return settings
    high = given["eps-clip"] if given["eps-clip-high"] is None else given["eps-clip-high"]
    return settings | {"algorithm.clip_low": given["eps-clip"], "algorithm.clip_high": high}


def _cispo(given: Inputs) -> str:
    high = given["eps-clip"] if given["eps-clip-high"] is None else given["eps-clip-high"]
    return f"cispo(ratio_low={max(1 - given['eps-clip'], 0):g}, ratio_high={1 + high:g})"


def _clipped(given: Inputs) -> str:
    return f"dual_clip(dual_clip={given['eps-clip-c']:g})" if given["eps-clip-c"] else "clipped_surrogate"


def _aggregation(name: str, given: Inputs) -> str:
    per_token = given["calculate-per-token-loss"]
    if per_token and name == "gspo":
        raise Invalid("has one value a sequence, which --calculate-per-token-loss cannot weigh",
                      "leave that out")
    return "token-mean" if per_token else "seq-mean-token-mean"


def kl_coef(given: Inputs) -> tuple[float, str]:
    """(weight of the KL to the reference, where it is charged)."""
    loss, reward = given["kl-loss-coef"], given["kl-coef"]
    if loss > 0 and reward > 0:
        raise Invalid(f"and --kl-coef = {reward:g} charge the KL twice", "leave one of them out")
    return (reward, "reward") if reward > 0 else (loss, "loss")


def _kl(value: float, given: Inputs) -> dict[str, Any]:
    weight, where = kl_coef(given)
    if weight == 0:
        return {"algorithm.kl_coef": 0.0}
    wish = "" if given["use-kl-loss"] or where == "reward" else (
        "slime wants --use-kl-loss beside it; a weight above 0 is taken for that wish")
    named = _ESTIMATORS[given["kl-loss-type"]] if "kl-loss-type" in given else _DEFAULT_KL
    return {"algorithm.kl_coef": Noted(weight, wish), "algorithm.kl_in": where,
            "algorithm.kl_estimator": named}


def _gamma(value: float, given: Inputs) -> dict[str, Any] | Without:
    if given["advantage-estimator"] in PER_TOKEN:
        return {"algorithm.gamma": value}
    if given["max-turns"] > 1:
        return {"algorithm.turn_gamma": value}
    return Without("an episode of one turn has nothing to discount under this advantage")


def _of_critic(setting: str) -> Effect:
    def effect(value: float, given: Inputs) -> dict[str, Any] | Without:
        ppo = given["advantage-estimator"] == "ppo"
        return {setting: value} if ppo else Without(f"{given['advantage-estimator']} has no critic")
    return effect


def _normalised(value: bool, given: Inputs) -> Without:
    if (given["rollout-task-type"] or "").startswith("kernelbench"):
        return Without("slime's buffer of this task centres a group's rewards; here algorithm.advantage does")
    raise Invalid("leaves a group's baseline out, which algorithm.advantage has",
                  "leave the flag out; --config.algorithm.advantage=reinforce_pp compares no group")


def _replay(kind: str) -> Effect:
    return lambda value, given: {"moe.replay": kind}


def _tis(value: bool, given: Inputs) -> dict[str, Any]:
    return _corrections(given)


def _corrections(given: Inputs) -> dict[str, Any]:
    tis = (f"tis(cap={given['tis-clip']:g})",) if given["use-tis"] else ()
    opsm = (f"opsm(drift={given['opsm-delta']:g})",) if given["use-opsm"] else ()
    return {"algorithm.corrections": (*tis, *opsm)}


def _schedule(name: str, given: Inputs) -> dict[str, Any]:
    low = given["min-lr"]
    if name != "constant" and low > 0:
        raise Invalid(f"falls to --min-lr = {low:g}, and here a schedule falls to 0", "give --min-lr 0")
    return {"optimizer.schedule": name}


KEYS: Table = {
    "advantage-estimator": Key(one_of(*_ADVANTAGES), _advantage, "", default="grpo"),
    "disable-grpo-std-normalization": beside(FLAG, "advantage-estimator", "", default=False),
    "calculate-per-token-loss": beside(FLAG, "advantage-estimator", "", default=False),
    "eps-clip": beside(number(1e-12, 1), "advantage-estimator", "", default=0.2),
    "eps-clip-high": beside(number(1e-12), "advantage-estimator", ""),
    "eps-clip-c": beside(number(1), "advantage-estimator", ""),
    "kl-loss-coef": Key(number(0), _kl, "", default=0.0),
    "kl-coef": beside(number(0), "kl-loss-coef", "", default=0.0),
    "kl-loss-type": beside(one_of(*_ESTIMATORS), "kl-loss-coef", ""),
    "use-kl-loss": beside(FLAG, "kl-loss-coef", "", default=False),
    "entropy-coef": Key(number(0), "algorithm.entropy_coef", "", default=0.0),
    "gamma": Key(number(0, 1), _gamma, "discount from turn to turn", default=1.0),
    "lambd": Key(number(0, 1), _of_critic("algorithm.lam"), "", default=1.0),
    "value-clip": Key(number(0), _of_critic("critic.clip"), "", default=0.2),
    "normalize-advantages": unused(FLAG, "estimators that whiten say so in their table: "
                                   "--config.algorithm.advantage"),
    "disable-rewards-normalization": Key(FLAG, _normalised, ""),
    "use-tis": Key(FLAG, _tis, ""),
    "tis-clip": beside(number(1), "use-tis", "", default=2.0),
    "use-opsm": Key(FLAG, _tis, ""),
    "opsm-delta": beside(number(0), "use-opsm", "", default=1e-4),
    "use-rollout-logprobs": Key(FLAG, "algorithm.bypass", "ratios start from the sampler's log-probs"),
    "use-routing-replay": Key(FLAG, _replay("r2"), ""),
    "use-rollout-routing-replay": Key(FLAG, _replay("r3"), ""),
    "loss-type": unused(only("policy_loss", because="is no loss of RL",
                        mend="give policy_loss; conversations are scripts/sft.py"),
                        "the loss is algorithm.loss"),
    "moe-aux-loss-coeff": Key(number(0), "moe.aux_loss_coef", ""),
    "moe-z-loss-coeff": Key(number(0), "moe.z_loss_coef", ""),
    "moe-router-load-balancing-type": unused(TEXT, "moe.aux_loss_coef and moe.bias_rate say it"),
    "moe-router-bias-update-rate": Key(number(0), "moe.bias_rate", ""),
    "optimizer": unused(only("adam", because="is not there", mend="give adam"), "AdamW"),
    "lr": Key(number(0), "optimizer.learning_rate", "", default=1e-6),
    "lr-decay-style": Key(one_of("constant", "linear", "cosine"), _schedule, "", default="linear"),
    "min-lr": beside(number(0), "lr-decay-style", "", default=0.0),
    "lr-warmup-iters": Key(integer(0), "optimizer.warmup_steps", "updates"),
    "weight-decay": Key(number(0), "optimizer.weight_decay", "", default=0.01),
    "adam-beta1": Key(number(0, 0.999999), "optimizer.b1", "", default=0.9),
    "adam-beta2": Key(number(0, 0.99999999), "optimizer.b2", "", default=0.999),
    "adam-eps": Key(number(0), "optimizer.eps", "", default=1e-8),
    "clip-grad": Key(number(0), "optimizer.clip_norm", "", default=1.0)}
