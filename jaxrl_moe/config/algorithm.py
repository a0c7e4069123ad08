"""Sections that say how the policy learns from what was drawn: the algorithm, its critic, and the routers."""
import dataclasses

from jaxrl_moe.config.setting import setting

_KL_IN = {"loss": "as a term of the loss", "reward": "taken off the reward"}


@dataclasses.dataclass(frozen=True)
class AlgorithmSection:
    """From rewards to the update: advantages, the loss, the KL to the reference, returns of several turns."""
    advantage: str = setting(
        "grpo", "how rewards become advantages, with settings in brackets: grpo(eps=1e-4)",
        table="rl.advantages.ADVANTAGES", brackets=True)
    loss: str = setting("clipped_surrogate", "loss of the policy, likewise: dual_clip(dual_clip=4)",
                        table="rl.losses.LOSSES", brackets=True)
    aggregation: str = setting("seq-mean-token-mean", "how the loss of tokens is averaged",
                               table="rl.aggregation.AGGREGATIONS")
    clip_low: float = setting(
        0.0, "distance below 1 at which the importance ratio is clipped; 0: the loss's own default, 0.2 "
        "for clipped_surrogate, 3e-4 for gspo", at_least=0)
    clip_high: float = setting(
        0.0, "the same above 1; 0: the loss's own default, 0.2 for clipped_surrogate, 4e-4 for gspo",
        at_least=0)
    corrections: tuple[str, ...] = setting(
        (), "weights for a sampler unlike the trainer, with settings in brackets: tis, icepop(high=4)",
        table="rl.corrections.CORRECTIONS", brackets=True)
    bypass: bool = setting(
        False, "the sampler's log-probs are the old ones: none are computed anew, mismatch/* compares "
        "the update's")
    kl_coef: float = setting(
        0.001, "weight of the KL to the reference: the policy without its adapters, or a copy of the "
        "weights that lora.rank = 0 starts from", at_least=0)
    kl_estimator: str = setting("k3", "how the KL of a token is estimated", table="rl.kl.KL_ESTIMATORS")
    kl_in: str = setting("loss", "where the KL to the reference is charged", choices=_KL_IN)
    kl_target: float = setting(
        0.0, "KL a token that is aimed at; above 0, kl_coef follows it: x 1.3 above 1.5 times the "
        "target, x 0.7 below half", at_least=0, unit="nats")
    entropy_coef: float = setting(0.0, "weight of the policy's entropy, which is raised", at_least=0)
    gamma: float = setting(1.0, "discount per token", at_least=0, at_most=1)
    lam: float = setting(1.0, "lambda of generalised advantage estimation", at_least=0, at_most=1)
    returns: str = setting(
        "outcome", "of several turns: outcome (one reward for the whole), trajectory (the discounted "
        "sum), turns (each turn its own sample)", table="learning.credit.rewards.RETURNS")
    turn_gamma: float = setting(0.4, "discount per turn, under trajectory and turns", at_least=0, at_most=1)
    step_rewards: str = setting(
        "none", "under decision_stepwise a turn earns step_lambda if it unlocks an achievement, instead "
        "of its reward", table="learning.credit.rewards.STEP_REWARDS")
    step_lambda: float = setting(
        1.0, "what a turn earns under decision_stepwise, which needs an environment whose turns say "
        "what is achieved", above=0)
    reward_blend: tuple[float, ...] = setting(
        (), "three finite weights of any sign: of the reward, of 'event' and of 'outcome' in the "
        "grade's info, as in 0.3,0.3,0.4; empty: none")
    truncated: str = setting(
        "keep", "what becomes of completions that the token limit ended: mask (leave them out), "
        "penalise (by truncated_penalty), keep, or bootstrap (with a critic: its value at the cut)",
        table="learning.samples.TRUNCATED")
    truncated_penalty: float = setting(
        0.0, "subtracted from the reward of a truncated completion under penalise", at_least=0)
    overlong_tokens: int = setting(
        0, "longest completion without a penalty of 1, DAPO's soft overlong penalty; 0: no penalty",
        at_least=0, unit="tokens")
    overlong_cushion: int = setting(0, "tokens below overlong_tokens over which the penalty rises from 0",
                                    at_least=0, unit="tokens")
    drop_constant_groups: bool = setting(
        False, "leave groups of equal rewards out of the update, and of its denominators")
    epochs: int = setting(1, "passes over each batch of rollouts", at_least=1)
    minibatches: int = setting(1, "optimiser steps per pass; fewer where masking leaves fewer sequences",
                               at_least=1)


@dataclasses.dataclass(frozen=True)
class CriticSection:
    """A value head on the policy's trunk; made where algorithm.advantage needs one."""
    learning_rate: float = setting(5e-5, "of the value head", at_least=0)
    coef: float = setting(1.0, "of the value loss, which has a factor 1/2 in itself", above=0)
    clip: float = setting(0.2, "bound on a value's change in one batch; 0: none", at_least=0)
    train_trunk: bool = setting(True, "false: the value loss trains the head alone")
    path: str = setting(
        "", "folder with a critic that an earlier run exported, to start from; empty: a fresh one",
        kind="path")


@dataclasses.dataclass(frozen=True)
class MoeSection:
    """The routers of a Mixture-of-Experts model: their balance, and whose routes an update follows."""
    replay: str = setting(
        "none", "routes that the update follows: none (its own), r2 (of the old-logprob pass), r3 (of "
        "the rollout engine). A token costs sparse layers x active experts bytes (twice that above 128 "
        "experts), on the host for a whole batch and on the device for one micro-batch",
        table="learning.replay.REPLAY")
    aux_loss_coef: float = setting(0.0, "weight of the load-balancing loss", at_least=0)
    z_loss_coef: float = setting(0.0, "weight of the router z-loss", at_least=0)
    bias_rate: float = setting(
        0.0, "step of the routers' selection bias, which balances without a loss; needs a model that "
        "has one", at_least=0)
    router: str = setting(
        "auto", "whether routers are trained: auto (frozen under LoRA, else trained), train or freeze; "
        "their selection bias follows bias_rate alone", table="learning.state.ROUTER")
