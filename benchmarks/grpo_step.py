"""One whole GRPO step (rollout, reward, advantage, reference, update, publish) against TRL's GRPOTrainer with
PEFT.

Both draw completions of exactly the same length from the same model, with a KL penalty to the frozen
reference and one optimiser step; the reward is a function of the token ids.
"""
import dataclasses
import tempfile

import numpy as np

from benchmarks.harness import Case
from benchmarks.models import ALPHA, ATTENTION, EXPERTS, RANK, hf_model, our_model
from jaxrl_moe.config import (
    AlgorithmSection,
    Config,
    DataSection,
    LoraSection,
    OptimizerSection,
    RolloutSection,
    TrainSection,
)
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.prepare import prepare
from jaxrl_moe.learning.update import update
from jaxrl_moe.types import Completion, Request, Rollout, RolloutGroup, SamplingParams

BETA = 0.04
LEARNING_RATE = 1e-5


def case(prompts: int = 8, group: int = 8, prompt: int = 32, new: int = 64) -> Case:
    return Case(
        f"GRPO step, {prompts} prompts of {prompt} x {group} completions of {new}, LoRA r{RANK} "
        "everywhere, KL", "TRL GRPOTrainer + PEFT", __name__,
        dict(prompts=prompts, group=group, prompt=prompt, new=new))


def ours(prompts: int, group: int, prompt: int, new: int):
    settings = dataclasses.replace(
        Config(), lora=LoraSection(rank=RANK,
                                   alpha=ALPHA), optimizer=OptimizerSection(learning_rate=LEARNING_RATE),
        rollout=RolloutSection(prompts_per_step=prompts, group_size=group, max_tokens=new,
                               slots=prompts * group, decode_steps=new),
        algorithm=AlgorithmSection(kl_coef=BETA), data=DataSection(max_prompt_tokens=prompt),
        train=TrainSection(tokens_per_micro_batch=prompts * group * (prompt + new)))
    model = our_model(True)
    engine = JaxEngine(model, settings.rollout, max_prompt_tokens=prompt)
    learner = build_learner(model, LearnerSettings(settings.optimizer, 1000))
    objective = make_policy_objective(settings.algorithm)
    rows = np.random.default_rng(0).integers(3, model.config.vocab_size, (prompts, prompt)).astype(np.int32)
    params = SamplingParams(max_tokens=new, n=group)
    step = iter(range(10**6))

    def rollout(row: np.ndarray, completion: Completion) -> Rollout:
        ones = np.ones(new, np.int32)
        reward = float(np.mean(completion.ids % 2))
        return Rollout(row, completion.ids, ones, completion.logprobs, completion.policy_version, reward, "",
                       False, {})

    def once():
        number = next(step)
        engine.publish(learner.params(), number)
        drawn = engine.generate([Request(row, params, number * prompts + i) for i, row in enumerate(rows)])
        engine.release()
        groups = [RolloutGroup(None, [rollout(row, completion) for completion in completions], i)
                  for i, (row, completions) in enumerate(zip(rows, drawn))]
        metrics, _ = update(prepare(groups, learner, settings), learner, objective, settings, number)[0]
        return float(metrics["policy/kl_loss"])

    return once


def theirs(prompts: int, group: int, prompt: int, new: int):
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer
    hf = hf_model()
    vocab = hf.config.vocab_size
    rows = np.random.default_rng(0).integers(3, vocab, (prompts, prompt))
    tokenizer = word_tokenizer(vocab)
    dataset = Dataset.from_list([{"prompt": " ".join(f"t{i}" for i in row)} for row in rows] * 64)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(ATTENTION),
                      target_parameters=list(EXPERTS))
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(output_dir=folder, per_device_train_batch_size=prompts * group,
                               num_generations=group, max_completion_length=new, beta=BETA,
                               learning_rate=LEARNING_RATE, generation_kwargs={"min_new_tokens": new},
                               use_cpu=True, bf16=False, fp16=False, report_to=[], save_strategy="no",
                               logging_strategy="no", disable_tqdm=True, gradient_checkpointing=False,
                               shuffle_dataset=False, max_steps=1000, temperature=1.0)
        trainer = GRPOTrainer(
            hf, reward_funcs=lambda completion_ids, **_:
            [float(np.mean(np.array(ids) % 2)) for ids in completion_ids], args=arguments,
            train_dataset=dataset, processing_class=tokenizer, peft_config=lora)
    trainer.create_optimizer_and_scheduler(1000)
    trainer.current_gradient_accumulation_steps = 1
    batches = iter(trainer.get_train_dataloader())

    def once():
        trainer.model.train()
        loss = trainer.training_step(trainer.model, next(batches), num_items_in_batch=None)
        torch.nn.utils.clip_grad_norm_([p for p in trainer.model.parameters() if p.requires_grad], 1.0)
        trainer.optimizer.step()
        trainer.model.zero_grad()
        trainer.state.global_step += 1
        return float(loss)

    return once


def word_tokenizer(vocab: int):
    """One word per id, so that a prompt of n words is n tokens; nothing it draws ends a completion."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(vocab)}, unk_token="t0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="t0", eos_token="t1", bos_token=None)
