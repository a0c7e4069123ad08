"""A Qwen3-MoE model's log-probs in float64 on the host, token by token's experts: plain NumPy over the arrays
of a Transformer.

The experts of each token may be given, since two that are nearly tied may swap by rounding alone. Written
after the description in arXiv 2505.09388: normed queries and keys, rotary positions in halves, softmax over
all experts before the best are taken.
"""
import numpy as np

from tests.gpu.exact.oracle import log_softmax


def logprobs(model, ids, expert_ids_TLA=None):
    """[T - 1] log-probs of ids[1:], and [T - 1, L, A] the experts that the routers prefer.

    Args:
      model: a Transformer whose layers are all sparse; its arrays are read as they are.
      ids: [T].
      expert_ids_TLA: of the first T - 1 tokens; None for those of the routers.
    """
    x = _array(model.embed.weight)[ids[:-1]]
    preferred = []
    stack, = model.stacks
    for layer in range(model.config.num_layers):
        x = x + _attention(stack, layer, model.config, _norm(x, stack.input_norm, layer))
        given = None if expert_ids_TLA is None else expert_ids_TLA[:, layer]
        y, chosen = _experts(stack.mlp, layer, model.config, _norm(x, stack.post_attention_norm, layer),
                             given)
        x = x + y
        preferred.append(chosen)
    logits = _norm(x, model.norm) @ _array(model.lm_head.weight)
    return log_softmax(logits)[np.arange(len(ids) - 1), ids[1:]], np.stack(preferred, axis=1)


def _array(variable, layer=None):
    array = np.asarray(variable[...]).astype(np.float64)
    return array if layer is None else array[layer]


def _matrix(linear, layer, dtype):
    """The layer's matrix, its adapter added as the model rounds it."""
    base = _array(linear.weight, layer)
    if linear.lora_a is None:
        return base
    low, high = (np.asarray(m[...].astype(dtype)).astype(np.float64)[layer]
                 for m in (linear.lora_a, linear.lora_b))
    return base + linear.lora.scale * low @ high


def _norm(x, norm, layer=None):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + norm.eps) * _array(norm.weight, layer)


def _turned(x_TNH, theta):
    """Pairs (i, i + H/2) turned by position over theta^(2i/H)."""
    length, _, width = x_TNH.shape
    angle = np.arange(length)[:, None, None] * theta ** (-np.arange(0, width, 2) / width)
    low = x_TNH[..., :width // 2]
    high = x_TNH[..., width // 2:]
    return np.concatenate(
        [low * np.cos(angle) - high * np.sin(angle), high * np.cos(angle) + low * np.sin(angle)], axis=-1)


def _attention(stack, layer, config, x):
    part = stack.attention
    length = len(x)
    dtype = part.q_proj.weight.dtype
    projections = (part.q_proj, part.k_proj, part.v_proj)
    q, k, v = ((x @ _matrix(linear, layer, dtype)).reshape(length, -1, config.head_dim)
               for linear in projections)
    q = _turned(_norm(q, part.q_norm, layer), config.rope.theta)
    k = _turned(_norm(k, part.k_norm, layer), config.rope.theta)
    out = np.zeros(q.shape)
    shared = config.num_heads // config.num_kv_heads
    for n in range(config.num_heads):
        scores = q[:, n] @ k[:, n // shared].T / np.sqrt(config.head_dim)
        scores = np.where(np.tril(np.ones((length, length), bool)), scores, -np.inf)
        out[:, n] = np.exp(log_softmax(scores)) @ v[:, n // shared]
    return out.reshape(length, -1) @ _matrix(part.o_proj, layer, dtype)


def _experts(mlp, layer, config, x, given):
    """(y, the routers' own choice), each token through its experts one by one."""
    probabilities = np.exp(log_softmax(x @ _array(mlp.router.weight, layer)))
    chosen = np.argsort(-probabilities, axis=1, kind="stable")[:, :config.num_experts_per_tok]
    used = chosen if given is None else given.astype(int)
    weights = np.take_along_axis(probabilities, used, 1)
    weights = weights / weights.sum(1, keepdims=True) if config.norm_topk_prob else weights
    gate, up, down = (_matrix(linear, layer, linear.weight.dtype)
                      for linear in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
    y = np.zeros(x.shape)
    for t, row in enumerate(x):
        for expert, weight in zip(used[t], weights[t]):
            g = row @ gate[expert]
            y[t] += weight * ((g / (1 + np.exp(-g)) * (row @ up[expert])) @ down[expert])
    return y, chosen
