"""GRPO of all weights of Qwen3-8B on six GPUs: two SGLang servers, and training split over four, with the
numbers of a multi-turn kernel-writing run (slime); GSM8K stands in for its task, which is another piece of
work.

    python -m venv .venv-sglang && .venv-sglang/bin/pip install "sglang[all]==0.5.23"
    python scripts/verify_setup.py --config=configs/qwen3_8b_sglang.py
    CUDA_VISIBLE_DEVICES=0,1,2,3 python scripts/train.py --config=configs/qwen3_8b_sglang.py

Hardware: six H200; not run here; training compiled for four of them leaves 37 GiB of the 131 that JAX gets.
The run launches a server on each of GPUs 4 and 5, and stops them at the end. Training is split over tensor 2
x context 2, as in the original: a device holds half of the weights, with float32 masters, Adam's moments and
gradient; scripts/plan.py --config=configs/qwen3_8b_sglang.py --model_config=configs/shapes/qwen3_8b.json
counts them.
From the original: 4 prompts with 4 completions each and one update of them, completions of up to 12,288
tokens at T = 0.8, learning rate 1e-6, betas 0.9 and 0.98, weight decay 0.1, clip 0.2 and 0.28, entropy 0.001,
0.01 of the k3 KL to a frozen copy of the model; its three turns and their discount of 0.4 need an environment
of several turns, GSM8K has one.
What to expect: at 1e-6 and 16 completions a step the reward moves over hundreds of steps; watch mismatch/kl
(about 1e-3 in bfloat16) and sync/seconds: all 16 GB of weights go to both servers after each update, in
buckets through shared memory.
"""
from configs.shared.gsm8k import every, gsm8k


def get_config():
    config = gsm8k()
    config.run_dir = "runs/qwen3_8b_sglang"
    config.model.path = "Qwen/Qwen3-8B"
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
    config.train.steps = 500
    config.train.tokens_per_micro_batch = 13312
    config.train.remat = "full"
    every(config, steps=50)
    return config
