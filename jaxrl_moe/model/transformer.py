"""The decoder: Qwen3 and Qwen3-MoE. Layers of one kind are stacked on a leading axis and scanned over, so that compile
time does not grow with depth; a change of kind (dense to sparse) starts another stack."""
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.distributed import collectives
from jaxrl_moe.distributed.chips import platform_of
from jaxrl_moe.kernels.grouped_matmul import choose
from jaxrl_moe.kernels.token_logprobs import Vocabulary
from jaxrl_moe.kernels.weight import WeightMatrix, multiply
from jaxrl_moe.model.attention import Attention, Place
from jaxrl_moe.model.cache import PagedCache
from jaxrl_moe.model.config import LoraConfig, ModelConfig, ModelConfigError
from jaxrl_moe.model.layers import Embedding, Init, Linear, RMSNorm, matches
from jaxrl_moe.model.moe import MoE
from jaxrl_moe.model.rope import rotary

REMAT = ("none", "mlp", "full")
APART_BYTES = 1 << 20, 1 << 28  # below, there is nothing to gain; above, the memory matters
APART_LAYERS = 16  # each layer taken apart is compiled on its own


class MLP(nnx.Module):
    """(silu(x Wg) * (x Wu)) Wd."""

    def __init__(self, config: ModelConfig, *, stack, lora, dtype, rngs):
        def linear(name, size_in, size_out, split="out"):
            init = Init(config.initializer_range, dtype, rngs, stack, lora)
            return Linear(f"mlp.{name}", size_in, size_out, init, split=split)

        self.gate_proj = linear("gate_proj", config.hidden_size, config.intermediate_size)
        self.up_proj = linear("up_proj", config.hidden_size, config.intermediate_size)
        self.down_proj = linear("down_proj", config.intermediate_size, config.hidden_size, split="in")

    def __call__(self, x, adapters=True, dropout_key=None):
        hidden = jax.nn.silu(self.gate_proj(x, adapters, dropout_key)) * self.up_proj(x, adapters, dropout_key)
        return self.down_proj(hidden, adapters, dropout_key)


class Layer(nnx.Module):
    """A run of `stack` like layers; a call computes one of them, whose arrays the scan has sliced out."""

    def __init__(self, config: ModelConfig, sparse: bool, *, stack, lora, dtype, rngs, attention, grouped_matmul, platform):
        norm = functools.partial(RMSNorm, config.hidden_size, config.rms_norm_eps, stack=stack, dtype=dtype)
        self.input_norm, self.post_attention_norm = norm(), norm()
        self.attention = Attention(config, stack=stack, lora=lora, dtype=dtype, rngs=rngs, platform=platform, backend=attention)
        self.sparse = sparse
        self.mlp = (MoE(config, stack=stack, lora=lora, dtype=dtype, rngs=rngs, backend=grouped_matmul, platform=platform) if sparse
                    else MLP(config, stack=stack, lora=lora, dtype=dtype, rngs=rngs))

    def __call__(self, x_BTD, place: Place, window, adapters, dropout_key, cache, layer, expert_ids_BTA, remat="none"):
        """Returns (x, cache, Routing or None). Under remat "mlp" the backward pass computes the MLP or the experts again from their
        input; attention's products, which are dear where sequences are long, are kept."""
        def attention(x_BTD, cache):
            return self.attention(self.input_norm(x_BTD), place, window, adapters, dropout_key, cache, layer)

        def mlp(normed):
            if not self.sparse:
                return self.mlp(normed, adapters, dropout_key), None
            return self.mlp(normed, place.segments_BT > 0, adapters, dropout_key, expert_ids_BTA)

        if remat != "full":  # which wraps the whole layer
            attention = _kept_but_weights(attention)
            mlp = jax.checkpoint(mlp, prevent_cse=False) if remat == "mlp" else _kept_but_weights(mlp)
        mixed, cache = attention(x_BTD, cache)
        x_BTD = x_BTD + mixed
        out, routing = mlp(self.post_attention_norm(x_BTD))
        return x_BTD + out, cache, routing


def _kept_but_weights(function):
    """The function, of which the backward pass computes nothing again but the weights that are gathered over fsdp.

    Never round a part that is computed again: JAX applies an outer policy inside too, and all of that part would be kept.
    """
    if collectives.size("fsdp") == 1:
        return function
    return jax.checkpoint(function, prevent_cse=False, policy=collectives.all_but_gathered_weights)


class Transformer(nnx.Module):
    """A causal language model over [B, T] token ids.

    Args:
      config: the shape.
      lora: adapters to attach; None for full fine-tuning or inference.
      dtype: of weights and activations; adapters and router are float32.
      attention, grouped_matmul: backends, see jaxrl_moe/kernels.
      platform: of the devices that compute, such as "gpu"; None: of those that JAX takes by itself.
    """

    def __init__(self, config: ModelConfig, *, lora: LoraConfig | None = None, dtype=jnp.float32, rngs: nnx.Rngs,
                 attention: str = "auto", grouped_matmul: str = "auto", platform: str | None = None):
        self.config, self.lora, self.dtype = config, lora, jnp.dtype(dtype)
        self.platform = platform or platform_of()
        self.embed = Embedding(config.vocab_size, config.hidden_size, std=config.initializer_range, dtype=dtype, rngs=rngs)
        self.stacks = nnx.List([
            Layer(config, run.sparse, stack=(run.count,), lora=lora, dtype=dtype, rngs=rngs, attention=attention,
                  grouped_matmul=choose(grouped_matmul, self.platform), platform=self.platform)
            for run in config.runs])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, dtype=dtype)
        self.lm_head = None if config.tie_word_embeddings else Linear(
            "lm_head", config.hidden_size, config.vocab_size, Init(config.initializer_range, dtype, rngs))
        if lora is not None:
            _check_targets(self, lora)

    @classmethod
    def abstract(cls, config: ModelConfig, **options) -> "Transformer":
        """The same module with ShapeDtypeStructs for arrays; nothing is allocated."""
        return nnx.eval_shape(lambda: cls(config, rngs=nnx.Rngs(0), **options))

    def head_DV(self) -> WeightMatrix:
        """The output matrix, of this device's part of the vocabulary; the embedding's transpose where they are tied."""
        return self.embed.table_VD().transposed() if self.lm_head is None else self.lm_head.weights()[0]

    def vocabulary(self) -> Vocabulary:
        """How the columns of head_DV lie: for kernels.token_logprobs."""
        parts, size = collectives.size("tensor"), self.config.vocab_size
        return Vocabulary("tensor" if parts > 1 else None, size if size % parts else 0)

    def logits(self, hidden_BTD):
        """[B, T, V] float32. For training use kernels.token_logprobs, which never forms them all."""
        logits_BTV = multiply(hidden_BTD, self.head_DV(), jnp.float32)
        return collectives.gather(logits_BTV, "tensor", -1)[..., :self.config.vocab_size]

    def __call__(self, tokens_BT, positions_BT, segments_BT, *, adapters=True, dropout_key=None, expert_ids_LBTA=None, remat="none"):
        """Final hidden states of whole sequences.

        Args:
          positions_BT: position of each token in its own segment.
          segments_BT: 0 on padding; tokens see earlier tokens of their own segment only.
          adapters: False gives the frozen reference policy.
          dropout_key: draws LoRA dropout; None for none.
          expert_ids_LBTA: experts to replay in each sparse layer, -1 to route live.
          remat: what the backward pass computes again instead of keeping it: "none", "mlp" (see Layer) or "full", each layer.
        Returns:
          (hidden [B, T, D], Routing stacked over sparse layers, or None for a dense model).
        """
        place = Place(positions_BT, segments_BT, *rotary(self.config, positions_BT))
        hidden, _, routing = self._layers(tokens_BT, place, None, adapters, dropout_key, expert_ids_LBTA, remat)
        return hidden, routing

    def apart(self):
        """Each stack's layers one by one, for `extend`; None for a stack that is scanned over all the same.

        On CPU each step of a scan copies its layer's weights out of the stack, for small models a quarter of a decode step's
        time. Layers taken apart before the loop over tokens are copied once, for as much memory again while it runs.
        """
        stacks = [nnx.split(stack)[1] for stack in self.stacks]
        return [[jax.tree.map(lambda x, i=i: x[i], arrays) for i in range(run.count)] if self._worth_taking_apart(run, arrays) else None
                for run, arrays in zip(self.config.runs, stacks)]

    def _worth_taking_apart(self, run, arrays) -> bool:
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arrays))
        return self.platform == "cpu" and run.count <= APART_LAYERS and APART_BYTES[0] <= size <= APART_BYTES[1]

    def extend(self, tokens_UT, positions_UT, cache: PagedCache, pages_UJ, *, adapters=True, apart=None):
        """Final hidden states of new tokens that follow what the cache holds; T = 1 decodes, T > 1 prefills.

        Token at position p of row u goes to page pages_UJ[u, p // page_size]; it sees positions 0..p of its row.
        A position below 0 is padding. `apart` is what apart() returned, or None to scan over all layers.
        Returns (hidden [U, T, D], cache, Routing or None).
        """
        place = Place(positions_UT, (positions_UT >= 0).astype(jnp.int32), *rotary(self.config, positions_UT), pages_UJ)
        return self._layers(tokens_UT, place, cache, adapters, None, None, "none", apart)

    def _layers(self, tokens_BT, place, cache, adapters, dropout_key, expert_ids_LBTA, remat, apart=None):
        x_BTD = self.embed(tokens_BT)
        routings, sparse_seen = [], 0
        for run, stack, layers in zip(self.config.runs, self.stacks, apart or [None] * len(self.stacks)):
            replay = None
            if run.sparse and expert_ids_LBTA is not None:
                replay = expert_ids_LBTA[sparse_seen:sparse_seen + run.count]
            sparse_seen += run.count if run.sparse else 0
            x_BTD, cache, routing = self._scan(run, stack, x_BTD, place, cache, adapters, dropout_key, replay, remat, layers)
            routings += [routing] if run.sparse else []
        routing = jax.tree.map(lambda *parts: jnp.concatenate(parts), *routings) if routings else None
        return self.norm(x_BTD), cache, routing

    def _scan(self, run, stack, x_BTD, place, cache, adapters, dropout_key, replay, remat, layers):
        graphdef, arrays = nnx.split(stack)
        windows = jnp.array(self.config.windows[run.first:run.first + run.count], jnp.int32)

        def body(carry, inputs):
            x, cache = carry
            arrays, window, layer, ids = inputs
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, layer)
            x, cache, routing = nnx.merge(graphdef, arrays)(x, place, window, adapters, key, cache, layer, ids, remat)
            return (x, cache), routing

        if remat == "full":
            body = jax.checkpoint(body, prevent_cse=False)
        inputs = (arrays, windows, jnp.arange(run.first, run.first + run.count), replay)
        if layers is None:
            (x_BTD, cache), routing = jax.lax.scan(body, (x_BTD, cache), inputs)
            return x_BTD, cache, routing
        routings = []
        for i, arrays in enumerate(layers):
            (x_BTD, cache), routing = body((x_BTD, cache), (arrays, *(None if x is None else x[i] for x in inputs[1:])))
            routings.append(routing)
        return x_BTD, cache, jax.tree.map(lambda *parts: jnp.stack(parts), *routings)


def _check_targets(model: Transformer, lora: LoraConfig):
    """Every target must name a linear layer of the model."""
    paths = sorted({module.path for _, module in nnx.iter_modules(model) if isinstance(module, Linear)} - {"lm_head"})
    idle = [target for target in lora.targets if not any(matches(target, path) for path in paths)]
    if idle:
        raise ModelConfigError(f"LoRA targets {idle} match no linear layer; the model has {', '.join(paths)}. "
                               "Use 'all-linear', one of these names or its last part, or a regular expression.")
