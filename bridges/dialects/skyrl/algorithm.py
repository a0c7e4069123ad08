"""trainer.algorithm of SkyRL: advantages, the loss, the KL and what corrects for the sampler.

Most are effects of a key, as rows.Key has them: (its value, all that was given) -> our settings.
"""
from typing import Any

from bridges.dialects.kinds import ANYTHING, FLAG, Invalid, integer, number, one_of, only, optional
from bridges.dialects.rows import Effect, Inputs, Key, Table, Without, beside, unused

_A = "trainer.algorithm"
_ADVANTAGE = f"{_A}.advantage_estimator"
_LOSS = f"{_A}.policy_loss_type"
_KL = f"{_A}.use_kl_loss"
_REDUCTIONS = {"token_mean": "token-mean", "sequence_mean": "seq-mean-token-mean",
               "seq_mean_token_sum_norm": "seq-mean-token-sum-norm"}
_CLIPPED = ("regular", "dual_clip", "gspo")  # losses that take eps_clip_low and eps_clip_high


def _advantage(name: str, given: Inputs) -> dict[str, Any]:
    by_std = given[f"{_A}.grpo_norm_by_std"]
    whitened = given[f"{_A}.advantage_batch_normalize"]
    ours = {"grpo": "grpo" if by_std else "dr_grpo", "rloo": "rloo", "reinforce++": "reinforce_pp",
            "gae": "gae"}[name]
    if whitened and ours == "dr_grpo":
        ours = "reinforce_pp_baseline"
    elif whitened and ours in ("grpo", "rloo"):
        raise Invalid(f"with {_A}.advantage_batch_normalize = true normalises advantages twice, which there "
                      "is no row for", "set it to false, or grpo_norm_by_std to false beside it")
    return {"algorithm.advantage": ours}


def _loss(name: str, given: Inputs) -> dict[str, Any]:
    ratio = given[f"{_A}.clip_ratio_c"]
    positive, negative = given[f"{_A}.sapo.tau_pos"], given[f"{_A}.sapo.tau_neg"]
    low, high = given[f"{_A}.cispo.cispo_eps_clip_low"], given[f"{_A}.cispo.cispo_eps_clip_high"]
    specs = {"regular": "clipped_surrogate", "dual_clip": f"dual_clip(dual_clip={ratio:g})", "gspo": "gspo",
             "sapo": f"sapo(tau_positive={positive:g}, tau_negative={negative:g})",
             "cispo": f"cispo(ratio_low={max(1 - low, 0):g}, ratio_high={1 + high:g})"}
    reduction = "sequence_mean" if name == "gspo" else given[f"{_A}.loss_reduction"]
    clips = {} if name not in _CLIPPED else {
        "algorithm.clip_low": given[f"{_A}.eps_clip_low"],
        "algorithm.clip_high": given[f"{_A}.eps_clip_high"]}
    return {"algorithm.loss": specs[name], "algorithm.aggregation": _REDUCTIONS[reduction], **clips}


def _of_loss(*names: str) -> Effect:
    """A setting of some losses alone, which the loss's own row reads."""
    def effect(value: Any, given: Inputs) -> dict[str, Any] | Without:
        name = given[_LOSS]
        return {} if name in names else Without(f"the loss {name} does not read it")
    return effect


def _kl(in_loss: bool, given: Inputs) -> dict[str, Any]:
    in_reward = given[f"{_A}.use_kl_in_reward"]
    older = f"{_A}.init_kl_coef"
    weight = given[older if in_reward and older in given else f"{_A}.kl_loss_coef"]
    if in_loss and in_reward:
        raise Invalid(f"and {_A}.use_kl_in_reward charge the KL twice", "set one of them to false")
    if weight == 0 or not (in_loss or in_reward):
        return {"algorithm.kl_coef": 0.0}
    return {"algorithm.kl_coef": weight, "algorithm.kl_in": "reward" if in_reward else "loss",
            "algorithm.kl_estimator": _estimator(given)} | _target(given, in_reward)


def _estimator(given: Inputs) -> str:
    if given[f"{_A}.use_abs_kl"]:
        return "abs"
    if given[f"{_A}.use_kl_estimator_k3"]:
        return "k3"
    return given[f"{_A}.kl_estimator_type"]


def _target(given: Inputs, in_reward: bool) -> dict[str, Any]:
    target = given[f"{_A}.kl_ctrl.kl_target"]
    if given[f"{_A}.kl_ctrl.type"] == "fixed" or not in_reward:
        return {}
    if not target:
        raise Invalid(f"has a coefficient that follows {_A}.kl_ctrl.kl_target, and that is {target}",
                      "give a target above 0, or kl_ctrl.type=fixed")
    return {"algorithm.kl_target": target}


def _entropy(used: bool, given: Inputs) -> dict[str, Any]:
    return {"algorithm.entropy_coef": given[f"{_A}.entropy_loss_coef"] if used else 0.0}


def _gamma(value: float, given: Inputs) -> dict[str, Any] | Without:
    if given[_ADVANTAGE] in ("gae", "reinforce++"):
        return {"algorithm.gamma": value}
    return Without(f"{given[_ADVANTAGE]} gives one value to a whole completion")


def critic(setting: str) -> Effect:
    """A setting of the critic, which gae alone has."""
    def effect(value: Any, given: Inputs) -> dict[str, Any] | Without:
        return {setting: value} if given[_ADVANTAGE] == "gae" else Without(
            f"{given[_ADVANTAGE]} has no critic")
    return effect


def _tis(used: bool, given: Inputs) -> dict[str, Any] | Without:
    cap = given[f"{_A}.tis_imp_ratio_cap"]
    if not used:
        return Without("no correction")
    if cap < 1:
        raise Invalid(f"needs a cap of at least 1, and {_A}.tis_imp_ratio_cap is {cap:g}",
                      "set it, such as to 2.0")
    return {"algorithm.corrections": (f"tis(cap={cap:g})",)}


def _dynamic(name: str | None, given: Inputs) -> dict[str, Any] | Without:
    if name is None:
        return Without("every group is trained")
    rounds = given[f"{_A}.dynamic_sampling.max_sample_batches"]
    return {"rollout.dynamic_sampling": True, "rollout.max_rounds": 10**6 if rounds < 0 else rounds}


_OWN_LOSS = "none of the losses here; see --config.algorithm.loss"
KEYS: Table = {
    _ADVANTAGE: Key(one_of("grpo", "rloo", "reinforce++", "gae"), _advantage, "", default="grpo"),
    f"{_A}.grpo_norm_by_std": beside(FLAG, _ADVANTAGE, "", default=True),
    f"{_A}.advantage_batch_normalize": beside(FLAG, _ADVANTAGE, "", default=False),
    _LOSS: Key(one_of("regular", "dual_clip", "gspo", "sapo", "cispo"), _loss, "", default="regular"),
    f"{_A}.loss_reduction": beside(one_of(*_REDUCTIONS), _LOSS, "", default="token_mean"),
    f"{_A}.eps_clip_low": Key(number(1e-12, 1), _of_loss(*_CLIPPED), "", default=0.2),
    f"{_A}.eps_clip_high": Key(number(1e-12), _of_loss(*_CLIPPED), "", default=0.2),
    f"{_A}.clip_ratio_c": Key(number(1), _of_loss("dual_clip"), "", default=3.0),
    f"{_A}.sapo.tau_pos": Key(number(1e-12), _of_loss("sapo"), "", default=1.0),
    f"{_A}.sapo.tau_neg": Key(number(1e-12), _of_loss("sapo"), "", default=1.05),
    f"{_A}.cispo.cispo_eps_clip_low": Key(number(0), _of_loss("cispo"), "", default=0.0),
    f"{_A}.cispo.cispo_eps_clip_high": Key(number(0), _of_loss("cispo"), "", default=5.0),
    f"{_A}.clip_cov": unused(ANYTHING, _OWN_LOSS),
    f"{_A}.kl_cov": unused(ANYTHING, _OWN_LOSS),
    _KL: Key(FLAG, _kl, "the reference is what the policy starts from", default=True),
    f"{_A}.use_kl_in_reward": beside(FLAG, _KL, "", default=False),
    f"{_A}.kl_loss_coef": beside(number(0), _KL, "", default=0.001),
    f"{_A}.kl_estimator_type": beside(one_of("k1", "k2", "k3", "abs"), _KL, "", default="k3"),
    f"{_A}.use_kl_estimator_k3": beside(FLAG, _KL, "", default=False),
    f"{_A}.use_abs_kl": beside(FLAG, _KL, "", default=False),
    f"{_A}.kl_ctrl.type": beside(one_of("fixed", "adaptive"), _KL, "", default="fixed"),
    f"{_A}.kl_ctrl.kl_target": beside(optional(number(0)), _KL, "", default=0.1),
    f"{_A}.init_kl_coef": beside(number(0), _KL, ""),  # of an older SkyRL, for a KL in the reward
    f"{_A}.kl_target": unused(only(None, because="is of an older SkyRL", mend="give kl_ctrl.type=adaptive "
                              "and kl_ctrl.kl_target"), "the coefficient stays"),
    f"{_A}.kl_ctrl.horizon": unused(integer(1), "the coefficient follows the target by factors, see "
                                    "algorithm.kl_target"),
    f"{_A}.use_entropy_loss": Key(FLAG, _entropy, "", default=False),
    f"{_A}.entropy_loss_coef": beside(number(0), f"{_A}.use_entropy_loss", "", default=0.01),
    f"{_A}.lambd": Key(number(0, 1), critic("algorithm.lam"), "", default=1.0),
    f"{_A}.gamma": Key(number(0, 1), _gamma, "", default=1.0),
    f"{_A}.value_clip": Key(number(0), critic("critic.clip"), "", default=0.2),
    f"{_A}.value_head_prefix": unused(ANYTHING, "the value head is a module of its own"),
    f"{_A}.use_tis": Key(FLAG, _tis, ""),
    f"{_A}.tis_imp_ratio_cap": beside(number(-1), f"{_A}.use_tis", "", default=-1.0),
    f"{_A}.zero_variance_filter": Key(FLAG, "algorithm.drop_constant_groups", ""),
    f"{_A}.dynamic_sampling.type": Key(only("filter", None, because="fills a batch with groups that stand in "
                                       "it already, which is not done here", mend="give filter"), _dynamic,
                                       "only groups whose rewards differ"),
    f"{_A}.dynamic_sampling.max_sample_batches": beside(
        integer(1, also=(-1,)), f"{_A}.dynamic_sampling.type", "", default=30),
    f"{_A}.dynamic_sampling.min_replace_ratio": unused(ANYTHING, "of the strategy replace"),
    f"{_A}.normalize_reward": unused(FLAG, "of a reward model, and rewards come from the task here")}
