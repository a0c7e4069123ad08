"""The decoder. Layers of one kind are stacked on a leading axis and scanned over, so that compile time does
not grow with depth; a change of kind (dense to sparse) starts another stack. Which layers there are, the
model's family says."""
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.distributed import collectives
from jaxrl_moe.distributed.chips import platform_of
from jaxrl_moe.kernels.grouped_matmul import choose
from jaxrl_moe.kernels.token_logprobs import Vocabulary
from jaxrl_moe.kernels.weight import WeightMatrix, multiply
from jaxrl_moe.model.config import LayerStack, LoraConfig, ModelConfig, ModelConfigError
from jaxrl_moe.model.layer import Build
from jaxrl_moe.model.layers import Embedding, Init, Linear, RMSNorm, matches
from jaxrl_moe.model.moe import Routing
from jaxrl_moe.model.passes import LayerPass, Pass

REMAT = ("none", "mlp", "full")
APART_BYTES = 1 << 20, 1 << 28  # below, there is nothing to gain; above, the memory matters
APART_LAYERS = 16  # each layer taken apart is compiled on its own


class Transformer(nnx.Module):
    """A causal language model over [B, T] token ids.

    Args:
      config: the shape.
      lora: adapters to attach; None for full fine-tuning or inference.
      dtype: of weights and activations; adapters and router are float32.
      attention, grouped_matmul: backends, see jaxrl_moe/kernels.
      platform: of the devices that compute, such as "gpu"; None: of those that JAX takes by itself.
    """

    def __init__(self, config: ModelConfig, *, lora: LoraConfig | None = None, dtype: Any = jnp.float32,
                 rngs: nnx.Rngs, attention: str = "auto", grouped_matmul: str = "auto",
                 platform: str | None = None):
        self.config = config
        self.lora = lora
        self.dtype = jnp.dtype(dtype)
        self.platform = platform or platform_of()
        self.embed = Embedding(config.vocab_size, config.hidden_size, std=config.initializer_range,
                               dtype=dtype, rngs=rngs)
        build = Build((), lora, dtype, rngs, attention, choose(grouped_matmul, self.platform), self.platform)
        self.stacks = nnx.List([
            stack.kind.make(config, build._replace(stack=(stack.count,))) for stack in config.stacks])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, dtype=dtype)
        self.lm_head = None if config.tie_word_embeddings else Linear(
            "lm_head", config.hidden_size, config.vocab_size, Init(config.initializer_range, dtype, rngs))
        if lora is not None:
            _check_targets(self, lora)

    @classmethod
    def abstract(cls, config: ModelConfig, **options: Any) -> "Transformer":
        """The same module with ShapeDtypeStructs for arrays; nothing is allocated."""
        return nnx.eval_shape(lambda: cls(config, rngs=nnx.Rngs(0), **options))

    def head_DV(self) -> WeightMatrix:
        """The output matrix, of this device's part of the vocabulary; the embedding's transpose where they
        are tied."""
        return self.embed.table_VD().transposed() if self.lm_head is None else self.lm_head.weights()[0]

    def vocabulary(self) -> Vocabulary:
        """How the columns of head_DV lie: for kernels.token_logprobs."""
        parts = collectives.size("tensor")
        size = self.config.vocab_size
        return Vocabulary("tensor" if parts > 1 else None, size if size % parts else 0)

    def logits(self, hidden_BTD: jax.Array) -> jax.Array:
        """[B, T, V] float32. For training use kernels.token_logprobs, which never forms them all."""
        logits_BTV = multiply(hidden_BTD, self.head_DV(), jnp.float32)
        return collectives.gather(logits_BTV, "tensor", -1)[..., :self.config.vocab_size]

    def __call__(self, tokens_BT: jax.Array, call: Pass) -> tuple[jax.Array, Routing | None]:
        """Final hidden states of whole sequences: (hidden [B, T, D], Routing stacked over sparse layers, or
        None for a dense model)."""
        hidden_BTD, _, routing = self._layers(tokens_BT, call, None)
        return hidden_BTD, routing

    def apart(self) -> list[list[Any] | None]:
        """Each stack's layers one by one, for `extend`; None for a stack that is scanned over all the same.

        On CPU each step of a scan copies its layer's weights out of the stack, for small models a quarter of
        a decode step's time. Layers taken apart before the loop over tokens are copied once, for as much
        memory again while it runs.
        """
        stacks = [nnx.split(stack)[1] for stack in self.stacks]
        return [[jax.tree.map(lambda x, i=i: x[i], arrays) for i in range(stack.count)]
                if self._worth_taking_apart(stack, arrays) else None
                for stack, arrays in zip(self.config.stacks, stacks)]

    def _worth_taking_apart(self, stack: LayerStack, arrays: Any) -> bool:
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arrays))
        few = stack.count <= APART_LAYERS
        return self.platform == "cpu" and few and APART_BYTES[0] <= size <= APART_BYTES[1]

    def extend(self, tokens_UT: jax.Array, cache: Any, call: Pass,
               apart: Sequence[list[Any] | None] | None = None) -> tuple[jax.Array, Any, Routing | None]:
        """Final hidden states of new tokens that follow what the cache holds; T = 1 decodes, T > 1 prefills.

        A token sees positions 0 up to its own of its row. `apart` is what apart() returned, or None to scan
        over all layers. Returns (hidden [U, T, D], cache, Routing or None).
        """
        return self._layers(tokens_UT, call, cache, apart)

    def _layers(self, tokens_BT: jax.Array, call: Pass, cache: Any,
                apart: Sequence[list[Any] | None] | None = None) -> tuple[jax.Array, Any, Routing | None]:
        common = LayerPass.of(call, self.config)
        x_BTD = self.embed(tokens_BT)
        routings = []
        sparse_seen = 0
        stacks = self.config.stacks
        for number, layers in enumerate(apart or [None] * len(stacks)):
            stack = stacks[number]
            replay = None
            if stack.kind.sparse and call.expert_ids_LBTA is not None:
                replay = call.expert_ids_LBTA[sparse_seen:sparse_seen + stack.count]
            sparse_seen += stack.count if stack.kind.sparse else 0
            x_BTD, cache, routing = self._scan(number, x_BTD, cache, common, replay, layers)
            routings += [routing] if stack.kind.sparse else []
        routing = jax.tree.map(lambda *parts: jnp.concatenate(parts), *routings) if routings else None
        return self.norm(x_BTD), cache, routing

    def _scan(self, number: int, x_BTD: jax.Array, cache: Any, common: LayerPass, replay: Any,
              layers: list[Any] | None) -> tuple[jax.Array, Any, Routing | None]:
        """Through a stack: by a scan, or one by one over layers that were taken apart."""
        graphdef, arrays = nnx.split(self.stacks[number])
        first, count, _ = self.config.stacks[number]
        windows = jnp.array(self.config.windows[first:first + count], jnp.int32)

        def body(carry: tuple[jax.Array, Any], inputs: tuple) -> tuple[tuple[jax.Array, Any], Routing | None]:
            x_BTD, cache = carry
            arrays, window, layer, expert_ids_BTA = inputs
            one_layer = nnx.merge(graphdef, arrays)
            x_BTD, cache, routing = one_layer(x_BTD, common.at(layer, window, expert_ids_BTA), cache)
            return (x_BTD, cache), routing

        if common.remat == "full":
            body = jax.checkpoint(body, prevent_cse=False)
        inputs = (arrays, windows, jnp.arange(first, first + count), replay)
        if layers is None:
            (x_BTD, cache), routing = jax.lax.scan(body, (x_BTD, cache), inputs)
            return x_BTD, cache, routing
        routings = []
        for i, arrays in enumerate(layers):
            (x_BTD, cache), routing = body((x_BTD, cache),
                                           (arrays, *(None if x is None else x[i] for x in inputs[1:])))
            routings.append(routing)
        return x_BTD, cache, jax.tree.map(lambda *parts: jnp.stack(parts), *routings)


def _check_targets(model: Transformer, lora: LoraConfig) -> None:
    """Every target must name a linear layer of the model."""
    paths = sorted({module.path
                    for _, module in nnx.iter_modules(model) if isinstance(module, Linear)} - {"lm_head"})
    idle = [target for target in lora.targets if not any(matches(target, path) for path in paths)]
    if idle:
        raise ModelConfigError(f"LoRA targets {idle} match no linear layer; the model has "
                               f"{', '.join(paths)}. Use 'all-linear', one of these names or its last part, "
                               "or a regular expression.")
