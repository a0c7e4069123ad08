"""Log-probs: of given tokens from hidden states, and of drawn ones from the engine over its paged cache."""
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrl_moe.config import RolloutSection
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.types import Request, SamplingParams
from tests.gpu.exact import oracle, oracle_model
from tests.gpu.exact.check import ALL, BFLOAT16, FLOAT32, Check, Precision, normal

M = 137
D = 128
V = 1009
TEMPERATURE = 0.7
TINY = ModelConfig(family="qwen3_moe", vocab_size=211, hidden_size=64, num_layers=2, num_heads=4,
                   num_kv_heads=2, head_dim=32, intermediate_size=96, sparse_layers=(True, True),
                   windows=(0, 0), num_experts=8, num_experts_per_tok=2, moe_intermediate_size=48,
                   norm_topk_prob=True, initializer_range=0.1)
PROMPTS = (1, 16, 17, 90)  # lengths around a page, and one whose experts are sorted
NEW = 12  # tokens drawn after each


def checks() -> list[Check]:
    found = [
        Check(
            f"token_logprobs, {'frozen' if frozen else 'trainable'} head{', entropy' * entropy}, "
            f"{precision.name}", precision,
            lambda frozen=frozen, entropy=entropy, precision=precision: heads(frozen, entropy, precision))
        for frozen in (True, False) for entropy in (True, False) for precision in ALL
    ]
    engines = [("padded", precision) for precision in ALL] + [("ragged", FLOAT32), ("tokamax", BFLOAT16)]
    return found + [
        Check(f"paged decode of a tiny MoE, {backend}, {precision.name}", precision,
              lambda backend=backend, precision=precision: engine(backend, precision), backend == "tokamax")
        for backend, precision in engines
    ]


def heads(frozen: bool, entropy: bool, precision: Precision):
    hidden = normal(0, (M, D), precision.dtype)
    head = normal(1, (D, V), precision.dtype, D ** -0.5)
    targets = np.random.default_rng(2).integers(0, V, M)
    by_logprob, by_entropy = (np.random.default_rng(seed).normal(size=M) for seed in (3, 4))

    @jax.jit
    def ours(hidden, head):
        def both(hidden, head):
            logprobs, entropies = token_logprobs(hidden, head, targets, TEMPERATURE, entropy=entropy,
                                                 frozen_head=frozen, chunk=64)
            return (logprobs, entropies) if entropy else (logprobs,)
        values, back = jax.vjp(both, hidden, head)
        return values, back(tuple(
            jnp.asarray(g, jnp.float32) for g in (by_logprob, by_entropy)[:len(values)]))

    values, gradients = ours(hidden[0], head[0])
    *wanted, dhidden, dhead = oracle.token_logprobs(hidden[1], head[1], targets, TEMPERATURE, by_logprob,
                                                    by_entropy * entropy)
    yield from zip(("logprobs", "entropy"), values, wanted)
    yield from zip(("dhidden", "dhead"), gradients, (dhidden, 0 * dhead if frozen else dhead))


def policy(dtype, backend: str = "auto") -> Transformer:
    """A tiny MoE whose adapters matter."""
    model = Transformer(TINY, lora=LoraConfig(4, 8.0), dtype=dtype, rngs=nnx.Rngs(0), grouped_matmul=backend)
    for number, adapter in enumerate(
            jax.tree.leaves(nnx.state(model, nnx.LoRAParam), is_leaf=lambda x: hasattr(x, "set_value"))):
        adapter.set_value(0.1 * jax.random.normal(jax.random.key(number), adapter.shape, jnp.float32))
    return model


def engine(backend: str, precision: Precision):
    """Log-probs of what the engine drew against a full pass over prompt and completion, through the experts
    that it took."""
    model = policy(precision.dtype, backend)
    section = RolloutSection(slots=4, page_size=16, max_tokens=NEW, decode_steps=5)
    drawing = JaxEngine(model, section, max_prompt_tokens=max(PROMPTS), seed=3)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, TINY.vocab_size, length).astype(np.int32) for length in PROMPTS]
    params = SamplingParams(max_tokens=NEW, temperature=1.0, return_routed_experts=True)
    done = drawing.generate([Request(ids, params, number) for number, ids in enumerate(prompts)])
    found = []
    wanted = []
    same = []
    for ids, (completion,) in zip(prompts, done):
        whole, preferred = oracle_model.logprobs(model, np.concatenate([ids, completion.ids]),
                                                 completion.expert_ids)
        found.append(completion.logprobs)
        wanted.append(whole[-NEW:])
        same.append((np.sort(preferred, -1) == np.sort(completion.expert_ids, -1)).all(-1).mean())
    yield "logprobs", np.concatenate(found), np.concatenate(wanted)
    # Nearly tied experts may swap by rounding, and a swap changes what later layers see; most must agree in
    # any precision.
    yield "routes", np.array([float(np.mean(same) > 0.9)]), np.ones(1)
