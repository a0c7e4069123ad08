import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_moe.rl.corrections import CORRECTIONS, Cap, Correction
from jaxrl_moe.rl.objective import make_objective
from tests.rl import cases, oracle

# defaults that keep part of the random sequences and drop part
SETTINGS = {"mis_geometric": {"low": 0.9, "high": 1.1}, "veto": {"floor": 0.5}, "opsm": {"drift": 0.05}}


@pytest.mark.parametrize("spread", [0.4, 15.0], ids=["near", "past-the-clamps"])
@pytest.mark.parametrize("name", sorted(CORRECTIONS))
def test_every_correction_equals_the_loop_over_tokens(name, spread):
    seqs = cases.sequences(seed=1, spread=spread, count=12)
    settings = dataclasses.replace(CORRECTIONS[name].settings, **SETTINGS.get(name, {}))
    got = cases.unpadded(CORRECTIONS[name].function(cases.padded(seqs, np.ones(12)), settings), seqs)
    expected = [oracle.correction(name, seq, seq["p"], dataclasses.asdict(settings)) for seq in seqs]
    inside = [np.array(seq["m"]) > 0 for seq in seqs]
    flat = np.concatenate([np.array(e)[i] for e, i in zip(expected, inside)])
    cases.assert_close(np.concatenate([g[i] for g, i in zip(got, inside)]), flat)
    assert len(set(flat.tolist())) > 1 or spread > 1


def one(o, q, A=(1.0, 1.0)):
    seq = {"p": o, "o": o, "q": q, "f": o, "H": o, "m": [1, 1], "A": A, "group": 0}
    return cases.padded([seq], [1], width=2)


def value(name, batch):
    return np.asarray(CORRECTIONS[name].function(batch, CORRECTIONS[name].settings))[0].tolist()


def test_corrections_give_the_expected_arrays_with_their_defaults():
    ln = np.log
    batch = one([ln(0.6), ln(0.1)], [ln(0.2), ln(0.2)])  # rho = 3, 1/2; product 1.5, geometric mean 1.22
    expected = {"tis": [2, 0.5], "tis_sequence": [1.5, 1.5], "icepop": [3, 0.5], "mis_token": [0, 1],
                "mis_sequence": [1, 1], "mis_geometric": [0, 0], "veto": [1, 1], "opsm": [1, 1]}
    for name, factors in expected.items():
        np.testing.assert_allclose(value(name, batch), factors, rtol=1e-5, err_msg=name)


def test_veto_drops_the_whole_sequence_for_one_token():
    assert value("veto", one([-1.0, -12.0], [-1.0, -1.0])) == [0, 0]


def test_opsm_drops_only_negative_advantages_of_a_drifted_sequence():
    assert value("opsm", one([-2.0, -2.0], [-1.0, -1.0], A=(1.0, -1.0))) == [1, 0]


def test_opsm_uses_old_log_probs_where_the_sampler_reported_none():
    batch = dataclasses.replace(one([-1.0, -1.0], [0, 0], A=(-1.0, -1.0)), sampler_logprobs_BT=None)
    assert value("opsm", batch) == [1, 1]
    assert value("opsm", dataclasses.replace(batch, logprobs_BT=batch.logprobs_BT - 1)) == [0, 0]


def drifting(inputs, settings):
    """A factor that depends on the policy as it moves."""
    return settings.cap * jnp.exp(inputs.logprobs_BT - inputs.sampler_logprobs_BT)


@pytest.mark.parametrize("loss", ["reinforce", "clipped_surrogate"])
@pytest.mark.parametrize("update", ["first", "later"])
def test_a_correction_weighs_the_gradient_and_has_none_of_its_own(loss, update, monkeypatch):
    """Its factor depends on the policy: a path through it would show. On the first update o is the policy
    itself."""
    monkeypatch.setitem(CORRECTIONS, "drifting", Correction(drifting, Cap(1.5), per_token=True))
    seqs = cases.sequences(seed=3)
    batch = cases.padded(seqs, cases.weights(seqs))
    if update == "first":
        batch = dataclasses.replace(batch, old_logprobs_BT=None)
    _, _, (plain,) = cases.total([batch], make_objective(loss))
    assert np.abs(plain).max() > 0
    for name, factor in (("drifting", drifting(batch, Cap(1.5))), ("tis", tis_of(batch))):
        _, _, (weighed,) = cases.total([batch], make_objective(loss, corrections={name: {}}))
        cases.assert_close(weighed, np.asarray(factor) * plain)


def tis_of(batch):
    """min(rho, 2), with rho of the old policy; on the first update of the present one, held."""
    old = batch.logprobs_BT if batch.old_logprobs_BT is None else batch.old_logprobs_BT
    return np.minimum(np.exp(np.clip(old - batch.sampler_logprobs_BT, -20, 20)), 2)
