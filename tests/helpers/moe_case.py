"""A small model with eight experts, a learner over it, and batches for both."""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from jaxrl_moe.config import OptimizerSection, RolloutSection
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.learning.batch import MicroBatch, micro_batches, sample_weights
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.programs import ObjectiveFunction
from jaxrl_moe.learning.samples import Sample, from_conversations
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer

SIZES = dict(family="qwen3_moe", vocab_size=47, hidden_size=16, num_layers=2, num_heads=4, num_kv_heads=2,
             head_dim=8, intermediate_size=24, sparse_layers=(True, True), windows=(0, 0), num_experts=8,
             num_experts_per_tok=2, moe_intermediate_size=12, norm_topk_prob=True, initializer_range=0.3)
CONFIG = ModelConfig(**SIZES)
LORA = LoraConfig(rank=3, alpha=6.0)
SECTION = OptimizerSection(learning_rate=1e-2, clip_norm=0.0)
ROLLOUT = RolloutSection(slots=4, page_size=8)
LENGTHS = (19, 5, 12, 2, 30, 9)


def model(lora: LoraConfig | None = None, seed: int = 0, **overrides: Any) -> Transformer:
    return Transformer(ModelConfig(**(SIZES | overrides)), lora=lora, rngs=nnx.Rngs(seed))


def learner(lora: LoraConfig | None = None, seed: int = 0, overrides: Mapping[str, Any] | None = None,
            placement: Placement | None = None, **options: Any) -> Learner:
    return learner_over(model(lora, seed, **(overrides or {})), placement=placement, **options)


def learner_over(policy: Transformer, section: OptimizerSection = SECTION, placement: Placement | None = None,
                 **options: Any) -> Learner:
    """Options: of LearnerSettings."""
    return build_learner(policy, LearnerSettings(section, 100, **options), placement)


def conversations(seed: int = 0, lengths: Sequence[int] = LENGTHS) -> list[Sample]:
    rng = np.random.default_rng(seed)
    return from_conversations([(rng.integers(0, 47, n), np.r_[0, rng.integers(0, 2, n - 2), 1])
                               for n in lengths])


def batches(samples: Sequence[Sample], tokens: int = 1000, pack: bool = True) -> list[MicroBatch]:
    return [
        item.batch for item in micro_batches(samples, tokens, pack, sample_weights(samples, "token-mean"))
    ]


def routed(samples: Sequence[Sample], seed: int = 0) -> list[np.ndarray]:
    """The samples with made-up routes: two different experts a token and layer, none for the last token."""
    rng = np.random.default_rng(seed)
    out = []
    for sample in samples:
        ids = np.argsort(rng.random((len(sample.ids_T), 2, 8)), axis=-1)[..., :2].astype(np.int8)
        ids[-1] = -1
        out.append(ids)
    return out


def gradients(policy: Learner, batch_list: Sequence[MicroBatch], objective: ObjectiveFunction,
              **options: Any) -> tuple[Any, Any]:
    """The minibatch's (gradient by the trained arrays, load [L, E])."""
    total = policy.totals(batch_list, objective, **options)
    return total.gradient[0], total.load
