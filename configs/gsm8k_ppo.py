"""Actor and last-token critic on GSM8K with Huihui-MoE-1B-A0.6B: REINFORCE with a value head, an adaptive KL,
LoRA.

    python scripts/train.py --config=configs/gsm8k_ppo.py

Hardware: one GPU of 24 GB; compiled for an RTX 3090 without the value head (benchmarks/plan.md), not run on
one.
What happens: advantage = centred reward (raw for one completion a prompt, less the group's mean for more)
less the value head's prediction at the last token, whitened over the batch and clamped to +-3; the value loss
0.5 mean((V - target)^2) trains the head alone; beta follows the KL to the reference. 128 prompts an update,
at least 4 sequences in a micro-batch (more where they are short), added up; 1200 updates are 20 passes over
GSM8K. Several completions a prompt: --config.rollout.group_size=4 --config.rollout.prompts_per_step=32
What to expect: the marker bonus is learnt within tens of updates, accuracy over hundreds;
critic/explained_variance rises slowly, as the head alone learns, one value a sequence; policy/kl_coef falls
at first, while the policy has not moved, to a hundredth of where it starts at most. top_p = 0.95 leaves out
tokens and so biases the policy gradient a little: watch rollout/kept_mass, or set
--config.rollout.top_p=1.
"""
from configs.shared.gsm8k import every
from configs.shared.huihui_1b import huihui_1b


def get_config():
    config = huihui_1b()
    config.run_dir = "runs/gsm8k_ppo"
    config.lora.dropout = 0.05
    config.rollout.prompts_per_step = 128
    config.rollout.group_size = 1
    config.rollout.temperature = config.eval.temperature = 0.8
    config.rollout.top_p = 0.95
    config.algorithm.advantage = "last_token_critic"
    config.algorithm.loss = "reinforce"
    config.algorithm.kl_coef = 0.05
    config.algorithm.kl_target = 0.03
    config.algorithm.entropy_coef = 0.001
    config.critic.learning_rate = 5e-5
    config.critic.clip = 0.0
    config.critic.train_trunk = False
    config.optimizer.learning_rate = 1e-5
    config.optimizer.b2 = 0.95
    config.optimizer.weight_decay = 0.01
    config.optimizer.warmup_steps = 100
    config.optimizer.clip_norm = 1.0
    config.train.steps = 1200
    config.train.tokens_per_micro_batch = 4 * (320 + 512)
    config.train.pack = False
    config.eval.greedy = True
    every(config, steps=50)
    return config
