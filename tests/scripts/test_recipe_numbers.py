"""The recipes' numbers are those of the papers and of the systems that they are named after; written down
here a second time."""
import pytest

from jaxrl_moe.config import resolve
from jaxrl_moe.learning.objective import make_policy_objective
from tests.helpers.recipes import RECIPES, load, name_of

NUMBERS = {
    "gsm8k/dr_grpo": {
        "algorithm.advantage": "dr_grpo",
        "algorithm.aggregation": "seq-mean-token-sum-norm",
        "algorithm.kl_coef": 0
    },
    "gsm8k/dapo": {
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.28,
        "algorithm.aggregation": "token-mean",
        "algorithm.kl_coef": 0,
        "algorithm.advantage": "grpo",
        "rollout.dynamic_sampling": True,
        "rollout.max_rounds": 10,
        "env.name": "gsm8k(binary=true)",
        # the paper's cushion of 4096 tokens before a length of 20480 is a fifth
        "algorithm.overlong_tokens": 512,
        "algorithm.overlong_cushion": 512 * 4096 // 20480
    },
    "math/dapo17k": {
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.28,
        "algorithm.aggregation": "token-mean",
        "algorithm.kl_coef": 0,
        "rollout.dynamic_sampling": True,
        "env.name": "math(boxed=true)",
        "algorithm.overlong_tokens": 1024,
        "algorithm.overlong_cushion": 1024 * 4096 // 20480
    },
    "gsm8k/gspo": {
        "algorithm.loss": "gspo",
        "loss.clip_low": 3e-4,
        "loss.clip_high": 4e-4,
        "algorithm.aggregation": "seq-mean-token-mean",
        "algorithm.kl_coef": 0
    },
    "gsm8k/cispo": {
        "loss.ratio_low": 0,
        "loss.ratio_high": 5,
        "algorithm.aggregation": "token-mean",
        "algorithm.kl_coef": 0
    },
    "gsm8k/sapo": {
        "loss.tau_positive": 1,
        "loss.tau_negative": 1.05,
        "algorithm.aggregation": "seq-mean-token-mean"
    },
    "gsm8k/dppo_tv": {
        "loss.divergence": 0.2,
        "loss.ratio_cap": 20
    },
    "gsm8k/rloo": {
        "algorithm.advantage": "rloo",
        "algorithm.kl_in": "reward",
        "algorithm.kl_estimator": "k1"
    },
    "gsm8k/reinforce_pp": {
        "algorithm.advantage": "reinforce_pp",
        "algorithm.gamma": 1,
        "algorithm.kl_in": "reward",
        "algorithm.kl_estimator": "k1",
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.2
    },
    "gsm8k/maxrl": {
        "algorithm.advantage": "maxrl",
        "env.name": "gsm8k(binary=true)",
        "algorithm.kl_coef": 0
    },
    "gsm8k/ppo": {
        "algorithm.advantage": "gae",
        "algorithm.gamma": 1,
        "algorithm.lam": 1,
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.2,
        "critic.clip": 0.2
    },
    "gsm8k_ppo": {
        "lora.rank": 16,
        "lora.alpha": 32,
        "lora.dropout": 0.05,
        "optimizer.learning_rate": 1e-5,
        "critic.learning_rate": 5e-5,
        "optimizer.b1": 0.9,
        "optimizer.b2": 0.95,
        "optimizer.weight_decay": 0.01,
        "optimizer.warmup_steps": 100,
        "optimizer.clip_norm": 1,
        "rollout.temperature": 0.8,
        "rollout.top_p": 0.95,
        "algorithm.kl_coef": 0.05,
        "algorithm.kl_target": 0.03,
        "algorithm.advantage": "last_token_critic",
        "algorithm.loss": "reinforce",
        "rollout.prompts_per_step": 4 * 32,
        "rollout.group_size": 1,
        "algorithm.minibatches": 1
    },
    "gsm8k/grpo": {
        "lora.rank": 16,
        "lora.alpha": 32,
        "lora.dropout": 0.05,
        "optimizer.learning_rate": 1e-5,
        "rollout.temperature": 0.8,
        "optimizer.weight_decay": 0.01,
        "optimizer.warmup_steps": 100,
        "algorithm.kl_coef": 0.05,
        "algorithm.kl_estimator": "k3",
        "algorithm.aggregation": "seq-mean-token-mean"
    },
    "gsm8k/sft": {
        "lora.rank": 16,
        "lora.alpha": 32,
        "lora.dropout": 0.05
    },
    "agora_gspo_qwen3_moe": {
        "model.path": "Qwen/Qwen3-30B-A3B",
        "algorithm.loss": "gspo",
        "lora.rank": 16,
        "lora.targets": ("all-linear",),
        "optimizer.learning_rate": 3e-5,
        "rollout.group_size": 4,
        "rollout.prompts_per_step": 2 * 16 // 4,
        "rollout.slots": 4,
        "train.steps": 3 * 4,
        "algorithm.reward_blend": (),
        "algorithm.step_rewards": "none"
    },
    "judges/agora_ex": {
        "model.path": "Qwen/Qwen3-30B-A3B",
        "algorithm.loss": "gspo",
        "lora.rank": 16,
        "lora.targets": ("all-linear",),
        "optimizer.learning_rate": 3e-5,
        "rollout.group_size": 4,
        "rollout.prompts_per_step": 2 * 16 // 4,
        "train.steps": 3 * 4
    },
    "nmoe_grpo": {
        "mesh.expert": 8,
        "rollout.prompts_per_step": 128,
        "algorithm.minibatches": 128 // 16,
        "rollout.group_size": 4,
        "data.max_prompt_tokens": 1024,
        "rollout.max_tokens": 2048,
        "optimizer.learning_rate": 1e-6,
        "moe.aux_loss_coef": 0.01,
        "lora.rank": 0,
        "algorithm.kl_coef": 0.001,
        "algorithm.kl_estimator": "k3"
    },
    "scale/agora_2xh200": {
        "model.path": "Qwen/Qwen3-30B-A3B",
        "algorithm.loss": "gspo",
        "lora.rank": 16,
        "lora.targets": ("all-linear",),
        "optimizer.learning_rate": 3e-5,
        "rollout.group_size": 4,
        "rollout.prompts_per_step": 2 * 16 // 4,
        "train.steps": 3 * 4,
        "rollout.backend": "vllm",
        "servers.gpus": "1",
        "servers.concurrency": 4 // 4
    },
    "qwen3_8b_sglang": {
        "model.path": "Qwen/Qwen3-8B",
        "rollout.backend": "sglang",
        "servers.gpus": "4;5",
        "mesh.tensor": 2,
        "mesh.context": 2,
        "rollout.temperature": 0.8,
        "rollout.max_tokens": 12288,
        "optimizer.learning_rate": 1e-6,
        "optimizer.b1": 0.9,
        "optimizer.b2": 0.98,
        "optimizer.weight_decay": 0.1,
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.28,
        "algorithm.kl_estimator": "k3",
        "algorithm.kl_coef": 0.01,
        "algorithm.entropy_coef": 0.001,
        "rollout.prompts_per_step": 4,
        "rollout.group_size": 4,
        "algorithm.minibatches": 16 // 16
    },
    "kernels/qwen3_8b_triton_grpo": {
        "rollout.backend": "sglang",
        "servers.gpus": "4;5",
        "mesh.tensor": 2,
        "mesh.context": 2,
        "rollout.temperature": 0.8,
        "rollout.max_tokens": 12288,
        "optimizer.learning_rate": 1e-6,
        "optimizer.b1": 0.9,
        "optimizer.b2": 0.98,
        "optimizer.weight_decay": 0.1,
        "optimizer.clip_norm": 1,
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.28,
        "algorithm.kl_estimator": "k3",
        "algorithm.kl_coef": 0.01,
        "algorithm.entropy_coef": 0.001,
        "algorithm.returns": "trajectory",
        "algorithm.turn_gamma": 0.4,
        "rollout.prompts_per_step": 4,
        "rollout.group_size": 4,
        "algorithm.minibatches": 16 // 16,
        "checkpoint.every": 50
    },
    "scale/nmoe_8xb200": {
        "mesh.expert": 8,
        "rollout.prompts_per_step": 128,
        "algorithm.minibatches": 128 // 16,
        "rollout.group_size": 4,
        "data.max_prompt_tokens": 1024,
        "rollout.max_tokens": 2048,
        "optimizer.learning_rate": 1e-6,
        "algorithm.kl_estimator": "k3",
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.2,
        "lora.rank": 0,
        "algorithm.kl_coef": 0.001
    },
    "scale/qwen3_30b_a3b_grpo_h200": {
        "model.path": "Qwen/Qwen3-30B-A3B",
        "lora.rank": 16,
        "algorithm.kl_coef": 0.001,
        "algorithm.kl_estimator": "k3"
    },
}
# of this project: no paper's
OWN = {"quickstart", "agents/agentgym_grpo", "agents/agentgym_sft", "agents/babyai_grpo",
       "agents/mixed_grpo", "agents/sciworld_grpo", "agents/textcraft_grpo", "gsm8k/tiny",
       "judges/agora_ex_tiny", "kernels/qwen3_8b_triton_sft", "kernels/tiny_triton_grpo"}


@pytest.fixture(scope="module")
def configs():
    return {name_of(path): resolve(load(path).get_config()) for path in RECIPES}


def value_of(config, key):
    """A setting by its dotted key; "loss." is what the loss reads in the end, defaults and brackets
    included."""
    section, name = key.split(".")
    if section == "loss":
        return getattr(
            make_policy_objective(config.algorithm, config.critic, config.moe).settings.loss_settings, name)
    return getattr(getattr(config, section), name)


@pytest.mark.parametrize("recipe, key, value",
                         [(recipe, *pair) for recipe, pairs in NUMBERS.items() for pair in pairs.items()])
def test_a_recipe_has_the_numbers_of_its_source(recipe, key, value, configs):
    assert value_of(configs[recipe], key) == value


def test_every_recipe_with_a_source_is_in_the_table(configs):
    assert NUMBERS.keys() | OWN == configs.keys()
