"""Agora EX's text task with a tiny random model, made on the spot: task app, endpoint, rewards and update on
two cores. A test of the whole path.

    ENVIRONMENT_API_KEY=sk_env_tiny python scripts/serve.py task-app --name=agora_ex_text --port=8101
    ENVIRONMENT_API_KEY=sk_env_tiny python scripts/train.py --config=configs/judges/agora_ex_tiny.py

Hardware: two CPU cores; some minutes. What to expect: without a judge the app scores the share of its rules
that are kept, and two million parameters that have read nothing keep few of them. With one (start the app
with --judge_url) the rewards are the judge's.
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/agora_ex_tiny"
    config.env.name = "task_app(url='http://127.0.0.1:8101', max_turns=1, reward='outcome')"
    config.data.seeds = "0-63"
    config.data.eval_seeds = "64-67"
    config.data.max_prompt_tokens = 64
    config.model.path = config.get_ref("run_dir") + "/base"
    config.scratch.vocab_size = 300
    config.scratch.hidden_size = 64
    config.scratch.num_layers = 2
    config.scratch.num_experts = 4
    config.scratch.intermediate_size = 64
    config.scratch.context = 2048
    config.algorithm.loss = "gspo"
    config.algorithm.kl_coef = 0.0
    config.rollout.prompts_per_step = 2
    config.rollout.group_size = 4
    config.rollout.max_tokens = 48
    config.rollout.slots = 8
    config.episodes.max_tokens = 1920  # a token a byte: nothing but "Task N." was there to learn others from
    config.endpoint.serve = True
    config.train.steps = 4
    config.train.tokens_per_micro_batch = 8192
    return config
