"""GRPO of all weights of Qwen3-8B on six GPUs: two SGLang servers, and training split over four, with the
numbers of a multi-turn kernel-writing run (slime); GSM8K stands in for its task, which
configs/kernels/qwen3_8b_triton_grpo.py has.

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
0.01 of the k3 KL to a frozen copy of the model; its three turns and their discount of 0.4 need a task of
several turns, and GSM8K has one.
What to expect: at 1e-6 and 16 completions a step the reward moves over hundreds of steps; watch mismatch/kl
(about 1e-3 in bfloat16) and sync/seconds: all 16 GB of weights go to both servers after each update, in
buckets through shared memory.
"""
from configs.shared.gsm8k import every, gsm8k
from configs.shared.slime import slime_qwen3_8b


def get_config():
    config = slime_qwen3_8b(gsm8k())
    config.run_dir = "runs/qwen3_8b_sglang"
    config.model.path = "Qwen/Qwen3-8B"
    config.train.steps = 500
    config.train.tokens_per_micro_batch = 13312
    every(config, steps=50)
    return config
