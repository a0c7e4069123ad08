"""Logits of our model and of transformers', side by side."""
import jax
import numpy as np

from bridges.compare.verify import near_ties, our_logits
from bridges.hf.importing import adapters
from jaxrl_moe.model.families.registry import family_of
from tests.helpers import oracles


def tokens(vocab_size=320, rows=2, length=40, seed=0):
    return np.random.default_rng(seed).integers(0, vocab_size, (rows, length))


def hf_logits(model, tokens_BT):
    torch = oracles.torch()
    with torch.no_grad():
        return model(torch.tensor(tokens_BT)).logits.float().numpy()


def relative(ours, theirs):
    """max|ours - theirs| / max|theirs|."""
    return np.abs(np.asarray(ours) - np.asarray(theirs)).max() / np.abs(np.asarray(theirs)).max()


def logits_error(model, hf_model, tokens_BT):
    """Relative error of our logits, without the positions that follow a near tie of a router (nearly
    none)."""
    ours, router_logits = our_logits(model, tokens_BT)
    keep_BT = np.ones(tokens_BT.shape, bool)
    if router_logits is not None:
        tied_BT = near_ties(family_of(model.config).scoring(model.config), router_logits).any(axis=0)
        keep_BT = ~np.maximum.accumulate(tied_BT, axis=1)
    assert keep_BT.mean() > 0.5
    return relative(ours[keep_BT], hf_logits(hf_model, tokens_BT)[keep_BT])


def randomise_adapters(model, std=0.1, seed=0):
    """Gives every adapter normal values in A and B, so that it matters."""
    for number, variable in enumerate(adapters(model).values()):
        key = jax.random.fold_in(jax.random.key(seed), number)
        variable.set_value(std * jax.random.normal(key, variable.shape, variable.dtype))
