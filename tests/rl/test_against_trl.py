"""Our objective against TRL's own GRPOTrainer._compute_loss on the same tensors; runs where the `peers` extra
is installed."""
import collections
import types

import numpy as np
import pytest

from jaxrl_moe.rl.objective import make_objective
from tests.helpers import oracles
from tests.rl import cases

torch = oracles.torch()
trl = pytest.importorskip("trl.trainer.grpo_trainer", reason="needs the extra 'peers'", exc_type=ImportError)

MAX_LENGTH = 16
CLIP = {"clip_low": 0.2, "clip_high": 0.28}
CASES = {
    # TRL's settings; ours: loss, its settings, aggregation, other terms
    "grpo": (dict(loss_type="grpo"), ("clipped_surrogate", CLIP, "seq-mean-token-mean", {})),
    "grpo-kl": (dict(loss_type="grpo", beta=0.3),
                ("clipped_surrogate", CLIP, "seq-mean-token-mean", dict(kl_coef=0.3))),
    "dapo": (dict(loss_type="dapo"), ("clipped_surrogate", CLIP, "token-mean", {})),
    "dapo-entropy": (dict(loss_type="dapo", entropy_coef=0.2),
                     ("clipped_surrogate", CLIP, "token-mean", dict(entropy_coef=0.2))),
    "dr_grpo": (dict(loss_type="dr_grpo"), ("clipped_surrogate", CLIP, "seq-mean-token-sum-norm", {})),
    "gspo": (dict(loss_type="grpo", importance_sampling_level="sequence", epsilon_low=3e-4,
                  epsilon_high=4e-4),
             ("gspo", {}, "seq-mean-token-mean", {})),
    "cispo": (dict(loss_type="cispo", epsilon_high=1.5), ("cispo", {"ratio_high": 1.5}, "token-mean", {})),
    "sapo": (dict(loss_type="sapo"), ("sapo", {}, "seq-mean-token-mean", {})),
    "opsm": (dict(loss_type="grpo", off_policy_mask_threshold=0.05),
             ("clipped_surrogate", CLIP, "seq-mean-token-mean", dict(corrections={"opsm": {"drift": 0.05}}))),
    "tis": (dict(loss_type="grpo", use_vllm=True),
            ("clipped_surrogate", CLIP, "seq-mean-token-mean", dict(corrections={"tis": {}})))}


def trl_loss(batch, loss_type, beta=0.0, entropy_coef=0.0, importance_sampling_level="token", epsilon_low=0.2,
             epsilon_high=0.28, off_policy_mask_threshold=None, use_vllm=False):
    """TRL's loss, its gradient by the log-probs, and its metrics, from the arrays of one micro-batch."""
    arrays = {name: torch.tensor(np.asarray(getattr(batch, name))) for name in cases.FIELDS.values()}
    logprobs = arrays["logprobs_BT"].requires_grad_()
    identity = types.SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x,
                                     sync_gradients=False)
    trainer = types.SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logprobs, arrays["entropy_BT"], None),
        get_off_policy_mask=trl.GRPOTrainer.get_off_policy_mask, accelerator=identity,
        args=types.SimpleNamespace(use_bias_correction_kl=False, delta=None, sapo_temperature_pos=1.0,
                                   sapo_temperature_neg=1.05, steps_per_generation=1),
        model=types.SimpleNamespace(training=True), aux_loss_enabled=False, top_entropy_quantile=1.0,
        current_gradient_accumulation_steps=1, max_completion_length=MAX_LENGTH, use_adaptive_entropy=False,
        _metrics={"train": collections.defaultdict(list)}, vllm_importance_sampling_correction=True,
        loss_type=loss_type, beta=beta, entropy_coef=entropy_coef, _entropy_bonus_enabled=entropy_coef > 0,
        importance_sampling_level=importance_sampling_level, epsilon_low=epsilon_low,
        epsilon_high=epsilon_high, off_policy_mask_threshold=off_policy_mask_threshold, use_vllm=use_vllm)
    mask = arrays["mask_BT"]
    empty = torch.zeros(len(logprobs), 0)
    rho = torch.exp(arrays["old_logprobs_BT"] - arrays["sampler_logprobs_BT"]).clamp(max=2.0)
    loss = trl.GRPOTrainer._compute_loss(
        trainer, None, {
            "prompt_ids": empty,
            "prompt_mask": empty,
            "completion_ids": mask,
            "completion_mask": mask,
            "advantages": arrays["advantages_BT"],
            "old_per_token_logps": arrays["old_logprobs_BT"],
            "ref_per_token_logps": arrays["ref_logprobs_BT"],
            "sampling_per_token_logps": arrays["sampler_logprobs_BT"],
            "importance_sampling_ratio": rho,
            "num_items_in_batch": mask.sum()
        })
    loss.backward()
    return loss.item(), logprobs.grad.numpy(), trainer._metrics["train"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_objective_and_its_gradient_equal_those_of_trl(name):
    theirs, (loss, settings, mode, terms) = CASES[name]
    seqs = cases.sequences(seed=21, count=9, token_advantages=theirs.get("importance_sampling_level")
                           != "sequence")
    batch = cases.padded(seqs, cases.weights(seqs, mode, MAX_LENGTH))
    value, metrics, (gradient,) = cases.total([batch], make_objective(loss, settings, **terms))
    expected, expected_gradient, their_metrics = trl_loss(batch, **theirs)
    assert value == pytest.approx(expected, rel=1e-5)
    cases.assert_close(gradient, expected_gradient)
    if loss == "clipped_surrogate":
        assert metrics["policy/clip_frac_low"] == pytest.approx(their_metrics["clip_ratio/low_mean"][0])
        assert metrics["policy/clip_frac_high"] == pytest.approx(their_metrics["clip_ratio/high_mean"][0])
    assert metrics["policy/entropy"] == pytest.approx(their_metrics["entropy"][0], rel=1e-5)
