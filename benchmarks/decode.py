"""Rollouts against transformers: greedy decoding of one batch, and continuous batching of prompts of mixed length."""
import numpy as np

from benchmarks.harness import Case
from benchmarks.models import hf_config, hf_model, our_model
from jaxrl_moe.config import RolloutSection
from jaxrl_moe.rollout.engine import JaxEngine
from jaxrl_moe.types import Request, SamplingParams


def batch_case(batch=8, prompt=32, new=128, experts=8, active=2, **shape) -> Case:
    """Greedy, every completion exactly `new` tokens; both return the token ids."""
    import torch
    config = hf_config(experts, active, **shape)
    hf = hf_model(config).eval()
    engine = JaxEngine(our_model(hf, None), RolloutSection(slots=batch, max_tokens=new, decode_steps=new), max_prompt_tokens=prompt)
    prompts = np.random.default_rng(0).integers(0, config.vocab_size, (batch, prompt)).astype(np.int32)
    torch_prompts = torch.tensor(prompts, dtype=torch.long)
    params = SamplingParams(max_tokens=new, temperature=0.0)

    def ours():
        return [completions[0].ids.tolist() for completions in engine.generate([Request(row, params, i) for i, row in enumerate(prompts)])]

    def theirs():
        with torch.no_grad():
            out = hf.generate(torch_prompts, attention_mask=torch.ones_like(torch_prompts), max_new_tokens=new, min_new_tokens=new,
                              do_sample=False, pad_token_id=0)
        return out[:, prompt:].tolist()

    return Case(f"Greedy decode, E={experts} top-{active}, {batch} x ({prompt} + {new})", ours, "transformers generate", theirs)


def continuous_case(requests=64, slots=16, longest_prompt=64, longest=128, **shape) -> Case:
    """Prompts and completions of mixed length through continuous batching on both sides; both return the token ids."""
    from transformers import ContinuousBatchingConfig, GenerationConfig
    config = hf_config(**shape)
    hf = hf_model(config).eval()
    engine = JaxEngine(our_model(hf, None), RolloutSection(slots=slots, max_tokens=longest), max_prompt_tokens=longest_prompt)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, config.vocab_size, n).astype(np.int32) for n in rng.integers(8, longest_prompt + 1, requests)]
    news = rng.integers(16, longest + 1, requests).tolist()

    def ours():
        drawn = engine.generate([Request(row, SamplingParams(max_tokens=new, temperature=0.0), i)
                                 for i, (row, new) in enumerate(zip(prompts, news))])
        return [completions[0].ids.tolist() for completions in drawn]

    def theirs():
        generation = GenerationConfig(max_new_tokens=longest, do_sample=False, eos_token_id=-1, pad_token_id=0)
        manager = hf.init_continuous_batching(
            generation_config=generation, continuous_batching_config=ContinuousBatchingConfig(max_batch_tokens=512, use_cuda_graph=False))
        manager.start()
        for i, (row, new) in enumerate(zip(prompts, news)):
            manager.add_request(row.tolist(), request_id=str(i), max_new_tokens=new)
        found = {}
        try:
            while len(found) < requests:
                result = manager.get_result(timeout=1)
                if result is not None and result.is_finished():
                    found[int(result.request_id)] = list(result.generated_tokens)
        finally:
            manager.stop(block=True)
        return [found[i] for i in range(requests)]

    name = f"Continuous batching, {requests} requests of mixed length, {slots} slots"
    return Case(name, ours, "transformers continuous batching", theirs)
