"""What one pass through the model is told beside its tokens."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.rope import rotary


class Pass(NamedTuple):
    """Of one call of a model. Letters: L sparse layers, A active experts per token, J visible pages.

    Attributes:
      positions_BT: position of each token in its own segment; with a cache below 0 on padding.
      segments_BT: 0 on padding; tokens see earlier tokens of their own segment only. None, with a cache: each
        row is one segment.
      adapters: False gives the frozen reference policy.
      dropout_key: draws LoRA dropout; None for none.
      expert_ids_LBTA: experts to replay in each sparse layer, -1 to route live.
      remat: what the backward pass computes again instead of keeping it: "none", "mlp" (see model.layer) or
        "full", each layer.
      pages_BJ: with a cache, the pages of each row: its token at position p goes to page pages_BJ[row, p //
        page_size].
    """

    positions_BT: Any
    segments_BT: Any = None
    adapters: bool = True
    dropout_key: jax.Array | None = None
    expert_ids_LBTA: Any = None
    remat: str = "none"
    pages_BJ: Any = None


class LayerPass(NamedTuple):
    """The same as one layer sees it.

    Attributes:
      cos_BT1H, sin_BT1H: of the rotary embedding.
      number: the layer's; window: its sliding window, 0 for full attention. Both may be traced.
      expert_ids_BTA: experts to replay in this layer, or None.
      dropout_key: of this layer.
      The others: see Pass.
    """

    positions_BT: Any
    segments_BT: Any
    cos_BT1H: Any
    sin_BT1H: Any
    pages_BJ: Any = None
    adapters: bool = True
    dropout_key: jax.Array | None = None
    expert_ids_BTA: Any = None
    remat: str = "none"
    number: Any = None
    window: Any = 0

    @classmethod
    def of(cls, call: Pass, config: ModelConfig) -> "LayerPass":
        """What all layers have in common."""
        segments_BT = call.segments_BT
        if segments_BT is None:
            segments_BT = (call.positions_BT >= 0).astype(jnp.int32)
        return cls(call.positions_BT, segments_BT, *rotary(config, call.positions_BT, segments_BT),
                   call.pages_BJ, call.adapters, call.dropout_key, remat=call.remat)

    def at(self, number: Any, window: Any, expert_ids_BTA: Any) -> "LayerPass":
        """Of one layer, which draws a dropout of its own."""
        key = None if self.dropout_key is None else jax.random.fold_in(self.dropout_key, number)
        return self._replace(number=number, window=window, expert_ids_BTA=expert_ids_BTA, dropout_key=key)
