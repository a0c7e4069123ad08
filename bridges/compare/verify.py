"""Our logits against those of transformers, on the same checkpoint and tokens."""
import dataclasses
import os
import pathlib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bridges.errors import BridgeError
from bridges.hf.folders import read_json, resolve
from bridges.hf.importing import load_model, selection_biases
from bridges.peft.adapters import import_adapter, read_lora
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.scoring import Scoring
from jaxrl_moe.model.transformer import Transformer

NEAR_TIE = 1e-5  # a smaller gap between the last expert chosen and the next may flip by rounding


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How two models agree.

    Attributes:
      error: max|ours - theirs| / max|theirs| of the logits, when our model takes the experts that theirs
        chose.
      near_ties: choices of experts (per token and layer) that differ, and that rounding decides.
      misrouted: choices that differ although they are clear; any is a fault, but for a selection bias, which
        transformers ignores.
      selection_bias: whether our routers have one.
      family: what people call the kind of model.
    """
    error: float
    near_ties: int
    misrouted: int
    selection_bias: bool = False
    family: str = ""


def verify(path: str | os.PathLike, adapter: str | os.PathLike | None = None, *, rows: int = 2,
           length: int = 64, seed: int = 0) -> Agreement:
    """Compares float32 logits on random tokens, and in a mixture of experts the choices of the routers.

    Raises:
      BridgeError: when transformers (or, with an adapter, PEFT) is not installed, or does not know the kind
        of model.
    """
    folder = resolve(path)
    _check_known(folder)
    model = load_model(folder, lora=None if adapter is None else read_lora(adapter), dtype=jnp.float32,
                       seed=seed)
    if adapter is not None:
        import_adapter(model, adapter)
    tokens_BT = np.random.default_rng(seed).integers(0, model.config.vocab_size, (rows, length))
    scoring = family_of(model.config).scoring(model.config) if model.config.num_sparse_layers else None
    theirs, chosen_LBTA = _their_logits(folder, adapter, tokens_BT, scoring)
    ours, router_logits_LBTE = our_logits(model, tokens_BT, chosen_LBTA)
    differ = clear = np.zeros((), bool)
    if chosen_LBTA is not None:
        scores_LBTE = np.asarray(scoring.scores(router_logits_LBTE)) + _biases(model)
        own_LBTA = np.argsort(-scores_LBTE, axis=-1)[..., :chosen_LBTA.shape[-1]]
        differ = (np.sort(own_LBTA, axis=-1) != np.sort(chosen_LBTA, axis=-1)).any(axis=-1)
        clear = ~near_ties(scoring, router_logits_LBTE)
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    return Agreement(float(error), int((differ & ~clear).sum()), int((differ & clear).sum()),
                     model.config.router_bias, family_of(model.config).title)


def _check_known(folder: pathlib.Path) -> None:
    """Raises BridgeError unless transformers can compute the model."""
    _, transformers = _libraries()
    kind = read_json(folder / "config.json").get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise BridgeError(f"transformers {transformers.__version__} knows no model_type {kind!r}, which "
                          f"{folder / 'config.json'} names, and verify compares with transformers alone: "
                          "hold such a family against a loop in NumPy, as tests/test_new_family.py does.")


def _libraries() -> tuple[Any, Any]:
    """(torch, transformers)."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise BridgeError("verify compares with transformers on torch, which is not installed: pip install "
                          "'jaxrl-moe[test]'.") from error
    return torch, transformers


def our_logits(model: Transformer, tokens_BT: np.ndarray, expert_ids_LBTA: Any = None
               ) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns ([B, T, V] float32 logits, [L, B, T, E] router logits or None for a dense model)."""
    positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state: Any, tokens_BT: jax.Array, expert_ids_LBTA: Any):
        model = nnx.merge(graphdef, state)
        call = Pass(positions_BT, jnp.ones_like(positions_BT), expert_ids_LBTA=expert_ids_LBTA)
        hidden_BTD, routing = model(tokens_BT, call)
        return model.logits(hidden_BTD), None if routing is None else routing.logits

    with jax.default_matmul_precision("highest"):
        return jax.device_get(forward(state, jnp.asarray(tokens_BT), expert_ids_LBTA))


def _biases(model: Transformer):
    """[L, 1, 1, E] selection biases, or 0."""
    biases = [np.asarray(variable[...]) for variable in selection_biases(model).values()]
    return np.concatenate(biases)[:, None, None] if biases else 0.0


def near_ties(scoring: Scoring, router_logits_LBTE: np.ndarray) -> np.ndarray:
    """[L, B, T] bool: whether rounding may decide which expert is chosen last."""
    active = scoring.active
    if active == router_logits_LBTE.shape[-1]:
        return np.zeros(router_logits_LBTE.shape[:-1], bool)
    ascending_LBTE = np.sort(scoring.scores(router_logits_LBTE), axis=-1)
    return ascending_LBTE[..., -active] - ascending_LBTE[..., -active - 1] < NEAR_TIE


def _their_logits(folder: pathlib.Path, adapter: str | os.PathLike | None, tokens_BT: np.ndarray,
                  scoring: Scoring | None) -> tuple[np.ndarray, np.ndarray | None]:
    """transformers' float32 logits, and the experts that its routers chose, [L, B, T, A] (None for a dense
    model)."""
    torch, transformers = _libraries()
    transformers.utils.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        theirs = _with_adapter(theirs, adapter)
    with torch.no_grad():
        out = theirs.eval()(torch.tensor(tokens_BT), **(dict(output_router_logits=True) if scoring else {}))
    routers = getattr(out, "router_logits", None) or ()
    scores = [np.array(scoring.scores(jnp.asarray(logits.numpy()))) for logits in routers]
    # By torch, so that ties are broken as there.
    chosen = [torch.topk(torch.from_numpy(scores_ME), scoring.active).indices.numpy() for scores_ME in scores]
    chosen = [ids_MA.reshape(*tokens_BT.shape, -1) for ids_MA in chosen]
    return out.logits.numpy(), np.stack(chosen).astype(np.int32) if chosen else None


def _with_adapter(theirs: Any, adapter: str | os.PathLike | None):
    try:
        import peft
    except ImportError as error:
        raise BridgeError("verifying an adapter needs peft, which is not installed: pip install "
                          "'jaxrl-moe[test]'.") from error
    with warnings.catch_warnings():
        # PEFT warns that its own patterns for fused experts match nothing, and then applies them.
        warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys")
        return peft.PeftModel.from_pretrained(theirs, str(resolve(adapter)))
