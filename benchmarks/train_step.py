"""One LoRA training step (forward, backward, AdamW) against transformers + PEFT on the same weights and tokens."""
import numpy as np

from benchmarks.harness import Case
from benchmarks.models import hf_config, hf_model, our_model, with_peft
from jaxrl_moe.config import OptimizerSection
from jaxrl_moe.training.batch import micro_batches, sample_weights
from jaxrl_moe.training.objective import make_policy_objective
from jaxrl_moe.training.samples import from_conversations
from jaxrl_moe.training.sft import NLL
from jaxrl_moe.training.step import Learner


def case(experts=8, active=2, expert_lora=True, batch=8, length=256, **shape) -> Case:
    import torch
    config = hf_config(experts, active, **shape)
    hf = hf_model(config)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (batch, length)).astype(np.int32)
    learner = Learner(our_model(hf, expert_lora), OptimizerSection(learning_rate=1e-4), 1000)
    samples = from_conversations([(row, np.ones(length)) for row in tokens])
    batches = [packed.batch for packed in micro_batches(samples, batch * length, pack=False,
                                                        weights_N=sample_weights(samples, "token-mean"))]
    objective = make_policy_objective(NLL)
    peft = with_peft(hf, expert_lora)
    torch_tokens = torch.tensor(tokens, dtype=torch.long)
    trained = [p for p in peft.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=1e-4)

    def ours():
        return float(learner.update(batches, objective)["loss"])

    def theirs():
        adamw.zero_grad()
        loss = peft(input_ids=torch_tokens, labels=torch_tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adamw.step()
        return float(loss)

    name = f"LoRA step, E={experts} top-{active}, {'attention + experts' if expert_lora else 'attention'}, B{batch} x T{length}"
    return Case(name, ours, "transformers + PEFT, grouped_mm", theirs)
