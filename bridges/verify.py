"""Our logits against those of transformers, on the same checkpoint and tokens."""
import dataclasses
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bridges.adapters import import_adapter, read_lora
from bridges.errors import BridgeError
from bridges.folders import resolve
from bridges.importing import load_model
from jaxrl_moe.model.transformer import Transformer

NEAR_TIE = 1e-5  # a smaller gap between the last expert chosen and the next may flip by rounding


@dataclasses.dataclass(frozen=True)
class Agreement:
    """error: max|ours - theirs| / max|theirs| over the compared positions; left_out: positions at or after a near tie."""
    error: float
    compared: int
    left_out: int


def verify(path: str | os.PathLike, adapter: str | os.PathLike | None = None, *, rows: int = 2, length: int = 64,
           seed: int = 0) -> Agreement:
    """Compares float32 logits on random tokens.

    Where a router's last choice is a near tie rounding may pick another expert; that position and those after it,
    which attend to it, are left out and counted.

    Raises:
      BridgeError: when transformers is not installed, or no position is left to compare.
    """
    folder = resolve(path)
    lora = None if adapter is None else read_lora(adapter)
    model = load_model(folder, lora=lora, dtype=jnp.float32, seed=seed)
    if adapter is not None:
        import_adapter(model, adapter)
    tokens_BT = np.random.default_rng(seed).integers(0, model.config.vocab_size, (rows, length))
    ours, keep_BT = our_logits(model, tokens_BT)
    theirs = their_logits(folder, adapter, tokens_BT)
    if not keep_BT.any():
        raise BridgeError(f"Every position of {folder} follows a near tie at a router, so nothing can be compared. Try another --seed.")
    error = np.abs(ours - theirs)[keep_BT].max() / np.abs(theirs[keep_BT]).max()
    return Agreement(float(error), int(keep_BT.sum()), int((~keep_BT).sum()))


def our_logits(model: Transformer, tokens_BT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ([B, T, V] float32 logits, [B, T] bool: no near tie at or before the position)."""
    positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state, tokens_BT):
        model = nnx.merge(graphdef, state)
        hidden_BTD, routing = model(tokens_BT, positions_BT, jnp.ones_like(positions_BT))
        return model.logits(hidden_BTD), None if routing is None else routing.logits

    with jax.default_matmul_precision("highest"):
        logits, router_logits = forward(state, jnp.asarray(tokens_BT))
    tied_BT = np.zeros(tokens_BT.shape, bool)
    active, experts = model.config.num_experts_per_tok, model.config.num_experts
    if router_logits is not None and active < experts:
        sorted_LBTE = np.sort(np.asarray(jax.nn.softmax(router_logits, axis=-1)), axis=-1)
        tied_BT = (sorted_LBTE[..., -active] - sorted_LBTE[..., -active - 1] < NEAR_TIE).any(axis=0)
    return np.asarray(logits), ~np.maximum.accumulate(tied_BT, axis=1)


def their_logits(folder, adapter, tokens_BT: np.ndarray) -> np.ndarray:
    """transformers' [B, T, V] float32 logits, with the adapter loaded by PEFT if there is one."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise BridgeError("verify compares with transformers on torch, which is not installed: pip install 'jaxrl-moe[test]'.") from error
    transformers.utils.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        theirs = _with_adapter(theirs, adapter)
    with torch.no_grad():
        return theirs.eval()(torch.tensor(tokens_BT)).logits.numpy()


def _with_adapter(theirs, adapter):
    try:
        import peft
    except ImportError as error:
        raise BridgeError("verifying an adapter needs peft, which is not installed: pip install 'jaxrl-moe[test]'.") from error
    with warnings.catch_warnings():
        # PEFT warns that its own patterns for fused experts match nothing, and then applies them.
        warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys")
        return peft.PeftModel.from_pretrained(theirs, str(resolve(adapter)))
