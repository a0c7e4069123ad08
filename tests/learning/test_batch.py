import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_moe.learning import batch as B
from jaxrl_moe.learning import samples as S
from jaxrl_moe.learning.credit.advantages import with_advantages
from jaxrl_moe.rl.objective import make_objective
from jaxrl_moe.rl.table import AlgorithmError
from jaxrl_moe.types import UserError
from tests.helpers import rollouts
from tests.rl import cases


def batch_of(seed=0, **kwargs):
    return with_advantages(S.from_groups(rollouts.groups(seed, **kwargs)), "grpo")


def made_up_logprobs(micro):
    """A function of a token and its own past alone, such as a model computes: -(token + position mod 7) /
    10."""
    return -((micro.targets_BT + micro.positions_BT) % 7).astype(np.float32) / 10


def outcome(samples, tokens, pack, mode, objective):
    packed = B.micro_batches(samples, tokens, pack, B.sample_weights(samples, mode, 16))
    inputs = [
        p.batch.loss_inputs(made_up_logprobs(p.batch), entropy_BT=-made_up_logprobs(p.batch)) for p in packed
    ]
    loss, metrics, gradients = cases.total(inputs, objective)
    return loss, metrics, B.per_sample(packed, gradients)


def test_a_packed_row_holds_whole_sequences_one_after_the_other():
    samples = S.from_conversations([([1, 2, 3, 4], [0, 1, 0, 1]), ([5, 6], [0, 1]), ([7] * 5, [0, 0, 0, 0,
                                                                                               1])])
    (packed,) = B.micro_batches(samples, 12, True, np.array([0.5, 0.25, 0.125]))
    batch = packed.batch
    rows = {
        "tokens_BT": [[7, 7, 7, 7, 7, 0], [1, 2, 3, 4, 5, 6]],
        "targets_BT": [[7, 7, 7, 7, 0, 0], [2, 3, 4, 0, 6, 0]],
        "positions_BT": [[0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 0, 1]],
        "segments_BT": [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 2, 2]],
        "sequence_BT": [[0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 2, 2]],
        "mask_BT": [[0, 0, 0, 1, 0, 0], [1, 0, 1, 0, 1, 0]],
        "weights_BT": [[0.125] * 5 + [0], [0.5] * 4 + [0.25] * 2],
        "advantages_BT": [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]],
    }
    for name, expected in rows.items():
        assert getattr(batch, name).tolist() == expected, name
    assert packed.spans == [(2, 0, 0, 5, 1), (0, 1, 0, 4, 1), (1, 1, 4, 2, 2)] and batch.num_tokens == 4


def test_padding_is_segment_zero_with_mask_zero():
    samples = batch_of()
    for batch, spans in B.micro_batches(samples, 64):
        real = np.zeros(batch.tokens_BT.shape, bool)
        for span in spans:
            real[span.tokens] = True
        assert ((batch.segments_BT > 0) == real).all() and not batch.mask_BT[~real].any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), tokens=st.integers(24, 200), pack=st.booleans())
def test_every_sample_lies_whole_in_one_micro_batch_within_the_budget(seed, tokens, pack):
    samples = batch_of(seed)
    found = []
    for batch, spans in B.micro_batches(samples, tokens, pack):
        assert batch.tokens_BT.size <= tokens
        for number, span in enumerate(spans):
            sample = samples[span.sample]
            found.append(span.sample)
            length = len(sample.ids_T)
            np.testing.assert_array_equal(batch.tokens_BT[span.tokens], sample.ids_T)
            np.testing.assert_array_equal(batch.targets_BT[span.tokens][:-1], sample.ids_T[1:])
            np.testing.assert_array_equal(batch.mask_BT[span.tokens], sample.mask_T)
            np.testing.assert_array_equal(batch.advantages_BT[span.tokens], sample.advantages_T)
            np.testing.assert_array_equal(batch.sampler_logprobs_BT[span.tokens], sample.sampler_logprobs_T)
            np.testing.assert_array_equal(batch.positions_BT[span.tokens], np.arange(length))
            assert (batch.sequence_BT[span.tokens] == number).all()
            same = (batch.segments_BT[span.row] == span.segment).sum()
            assert same == length
    assert sorted(found) == list(range(len(samples)))


@settings(max_examples=12, deadline=None)
@given(budget=st.sampled_from([24, 72, 4096]), pack=st.booleans(), order=st.permutations(range(12)),
       mode=st.sampled_from(["token-mean", "seq-mean-token-mean", "seq-mean-token-sum-norm", "prompt-mean"]),
       loss=st.sampled_from(["clipped_surrogate", "gspo"]))
def test_budget_packing_and_order_change_neither_loss_nor_gradient(budget, pack, order, mode, loss):
    samples = batch_of(3, holes=True)
    samples = S.with_values(samples, "ref_logprobs_T",
                            [np.full(len(s.ids_T), -0.4, np.float32) for s in samples])
    objective = make_objective(loss, kl_coef=0.2, entropy_coef=0.1, corrections={"tis_sequence": {}})
    plain = outcome(samples, 4096, False, mode, objective)
    other = outcome([samples[i] for i in order], budget, pack, mode, objective)
    assert other[0] == pytest.approx(plain[0], rel=1e-5, abs=1e-6)
    assert other[1] == pytest.approx(plain[1], rel=1e-4, abs=1e-5)
    for position, i in enumerate(order):
        np.testing.assert_allclose(other[2][position], plain[2][i], rtol=1e-5, atol=1e-6)


def test_results_come_back_to_their_samples():
    samples = batch_of(5)
    packed = B.micro_batches(samples, 48)
    back = B.per_sample(packed, [p.batch.tokens_BT * 2 for p in packed])
    for sample, values in zip(samples, back, strict=True):
        np.testing.assert_array_equal(values, 2 * sample.ids_T)


def test_old_log_probs_travel_from_one_layout_to_another():
    samples = batch_of(6)
    packed = B.micro_batches(samples, 48)
    old = B.per_sample(packed, [made_up_logprobs(p.batch) for p in packed])
    for batch, _ in B.micro_batches(S.with_values(samples, "old_logprobs_T", old), 4096, False):
        inside = batch.segments_BT > 0
        np.testing.assert_array_equal(batch.old_logprobs_BT[inside], made_up_logprobs(batch)[inside])


def test_unknown_log_probs_stay_unknown():
    (packed,) = B.micro_batches(batch_of(), 4096)
    assert packed.batch.old_logprobs_BT is None and packed.batch.ref_logprobs_BT is None
    assert packed.batch.expert_ids_LBTA is None


def test_samples_with_and_without_old_log_probs_do_not_mix():
    samples = batch_of()
    samples[0] = dataclasses.replace(samples[0], old_logprobs_T=np.zeros(len(samples[0].ids_T)))
    with pytest.raises(ValueError):
        B.micro_batches(samples, 4096)


def test_routes_travel_in_the_engines_integer_type_with_the_sentinel_on_padding():
    samples = batch_of(experts=5)
    samples[0] = dataclasses.replace(samples[0], expert_ids_TLA=None)
    for batch, spans in B.micro_batches(samples, 64):
        routes = batch.expert_ids_LBTA
        assert routes.dtype == np.int8 and routes.shape == (2, *batch.tokens_BT.shape, 3)
        assert (routes[:, batch.segments_BT == 0] == -1).all()
        for span in spans:
            expected = samples[span.sample].expert_ids_TLA
            got = np.moveaxis(routes, 0, 2)[span.tokens]
            np.testing.assert_array_equal(got, -1 if expected is None else expected)


def test_the_number_of_tokens_is_that_of_the_whole_minibatch():
    samples = batch_of()
    packed = B.micro_batches(samples, 48)
    assert len(packed) > 1
    assert {float(p.batch.num_tokens) for p in packed} == {sum(s.trained_tokens for s in samples)}


def test_shapes_are_few():
    shapes = set()
    for seed in range(30):
        shapes |= {p.batch.tokens_BT.shape for p in B.micro_batches(batch_of(seed, count=8, size=8), 256)}
    assert len(shapes) <= 8


def test_unpacked_rows_hold_one_sequence_each():
    for batch, spans in B.micro_batches(batch_of(), 64, False):
        assert batch.segments_BT.max() == 1 and len({span.row for span in spans}) == len(spans)


def test_a_sequence_beyond_the_budget_is_refused_with_the_setting_to_raise():
    with pytest.raises(UserError, match="train.tokens_per_micro_batch to 30 or more"):
        B.micro_batches(S.from_conversations([([1] * 30, [1] * 30)]), 29)


def test_a_sequence_that_fits_the_budget_but_not_its_bucket_is_laid_out():
    (packed,) = B.micro_batches(S.from_conversations([([1] * 29, [1] * 29)]), 29)
    assert packed.batch.tokens_BT.shape == (1, 29)


def test_minibatches_share_out_every_trainable_sample_once_and_repeat_for_the_same_key():
    samples = batch_of(count=5)
    samples[3] = dataclasses.replace(samples[3], mask_T=np.zeros_like(samples[3].mask_T))
    parts = B.minibatches(samples, 3, (0, 1, 2))
    ids = sorted(id(s) for part in parts for s in part)
    assert ids == sorted(id(s) for i, s in enumerate(samples) if i != 3)
    assert sorted(len(part) for part in parts) == [6, 6, 7]

    def names(key):
        return [[id(s) for s in part] for part in B.minibatches(samples, 3, key)]

    assert names((0, 1, 2)) == names((0, 1, 2)) != names((0, 1, 3))


def test_one_minibatch_keeps_the_order():
    samples = batch_of()
    assert B.minibatches(samples, 1, (0,)) == [samples]


def test_fewer_surviving_sequences_than_minibatches_make_one_minibatch_each():
    samples = [dataclasses.replace(s, mask_T=s.mask_T * (i < 3)) for i, s in enumerate(batch_of())]
    parts = B.minibatches(samples, 4, (0,))
    assert sorted(id(s) for part in parts
                  for s in part) == sorted(map(id, samples[:3])) and list(map(len, parts)) == [1, 1, 1]
    with pytest.raises(AlgorithmError, match="nothing to train on"):
        B.minibatches(samples[3:], 4, (0,))


def test_masked_truncated_sequences_leave_every_denominator():
    samples = with_advantages(S.from_groups(rollouts.groups(7)), "grpo")
    masked = [
        dataclasses.replace(s, mask_T=np.zeros_like(s.mask_T)) if i == 0 else s for i, s in enumerate(samples)
    ]
    objective = make_objective()
    for mode in ("token-mean", "seq-mean-token-mean", "prompt-mean"):
        full, without = (outcome(x, 64, True, mode, objective)[0] for x in (masked, samples[1:]))
        assert full == pytest.approx(without, rel=1e-5, abs=1e-7)
