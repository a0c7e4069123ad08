"""One LoRA training step (forward, backward, AdamW) against transformers + PEFT on the same weights and
tokens."""
import numpy as np

from benchmarks.harness import Case
from benchmarks.models import hf_model, our_model, with_peft


def case(experts: int = 8, active: int = 2, expert_lora: bool | None = True, batch: int = 8,
         length: int = 256) -> Case:
    name = (f"LoRA step, E={experts} top-{active}, {'attention + experts' if expert_lora else 'attention'}, "
            f"B{batch} x T{length}")
    return Case(name, "transformers + PEFT, grouped_mm", __name__,
                dict(experts=experts, active=active, expert_lora=expert_lora, batch=batch, length=length))


def _tokens(vocab: int, batch: int, length: int):
    return np.random.default_rng(0).integers(0, vocab, (batch, length)).astype(np.int32)


def ours(expert_lora: bool | None, batch: int, length: int, **shape: int):
    from jaxrl_moe.config import OptimizerSection
    from jaxrl_moe.learning.batch import micro_batches, sample_weights
    from jaxrl_moe.learning.make import LearnerSettings, build_learner
    from jaxrl_moe.learning.objective import make_policy_objective
    from jaxrl_moe.learning.samples import from_conversations
    from jaxrl_moe.phases import NLL
    model = our_model(expert_lora, **shape)
    learner = build_learner(model, LearnerSettings(OptimizerSection(learning_rate=1e-4), 1000))
    samples = from_conversations([(row, np.ones(length))
                                  for row in _tokens(model.config.vocab_size, batch, length)])
    batches = [packed.batch for packed in micro_batches(samples, batch * length, pack=False,
                                                        weights_N=sample_weights(samples, "token-mean"))]
    objective = make_policy_objective(NLL)
    return lambda: float(learner.update(batches, objective)["loss"])


def theirs(expert_lora: bool | None, batch: int, length: int, **shape: int):
    import torch
    hf = hf_model(**shape)
    peft = with_peft(hf, expert_lora)
    tokens = torch.tensor(_tokens(hf.config.vocab_size, batch, length), dtype=torch.long)
    trained = [p for p in peft.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=1e-4)

    def step():
        adamw.zero_grad()
        loss = peft(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adamw.step()
        return float(loss)

    return step
