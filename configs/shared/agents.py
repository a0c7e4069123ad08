"""A small MoE, made from scratch, plays a text game in many turns: SFT on what players did, then GRPO."""
from jaxrl_moe.config import base


def small_player(game, folder):
    """Model, data and algorithm; `game` is a row of data.generate, `folder` the run's."""
    config = base()
    config.run_dir = folder
    folder = config.get_ref("run_dir")
    config.model.path = folder + "/base"
    config.scratch.vocab_size = 512
    config.scratch.hidden_size = 128
    config.scratch.num_layers = 2
    config.scratch.num_experts = 8
    config.scratch.intermediate_size = 128
    config.scratch.initializer_range = 0.05
    config.scratch.context = 512  # all of an episode

    config.data.generate = game
    config.data.path = folder + "/data/train.jsonl"
    config.data.eval_path = folder + "/data/eval.jsonl"
    config.sft.path = folder + "/data/sft.jsonl"
    config.data.max_prompt_tokens = 64
    config.episodes.max_tokens = 448
    config.sft.learning_rate = 3e-3
    config.sft.max_tokens = 512

    config.lora.rank = 16
    config.lora.alpha = 32.0
    config.algorithm.kl_coef = 0.001
    config.algorithm.returns = "trajectory"
    config.algorithm.turn_gamma = 1.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 5
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.slots = 128
    config.rollout.page_size = 64  # few sizes of what a turn goes on from, and so few programs
    config.rollout.decode_steps = 4
    config.train.tokens_per_micro_batch = 16384
    config.eval.every = 20
    config.checkpoint.every = 20
    config.checkpoint.keep = 2
    return config
