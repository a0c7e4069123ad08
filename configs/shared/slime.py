"""The numbers of slime's multi-turn kernel-writing run of Qwen3-8B: four GPUs train, and two servers of
SGLang draw."""


def slime_qwen3_8b(config):
    """Sets them: 4 prompts with 4 completions each and one update of them; all weights are trained."""
    config.model.dtype = "bfloat16"
    config.lora.rank = 0
    config.mesh.tensor = 2
    config.mesh.context = 2
    config.rollout.backend = "sglang"
    config.servers.python = ".venv-sglang/bin/python"
    config.servers.gpus = "4;5"
    config.servers.request_timeout = 1800.0
    config.rollout.prompts_per_step = 4
    config.rollout.group_size = 4
    config.rollout.max_tokens = 12288
    config.rollout.temperature = 0.8
    config.algorithm.clip_low = 0.2
    config.algorithm.clip_high = 0.28
    config.algorithm.kl_coef = 0.01
    config.algorithm.entropy_coef = 0.001
    config.optimizer.learning_rate = 1e-6
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.98
    config.optimizer.weight_decay = 0.1
    config.train.remat = "full"
    return config
