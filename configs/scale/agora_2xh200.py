"""GSPO with LoRA on Qwen3-30B-A3B as Agora EX splits two GPUs: a vLLM server on one, training on the other;
GSM8K stands in for its task app and judges.

    python -m venv .venv-vllm && .venv-vllm/bin/pip install vllm==0.32.0
    python scripts/verify_setup.py --config=configs/scale/agora_2xh200.py
    CUDA_VISIBLE_DEVICES=0 python scripts/train.py --config=configs/scale/agora_2xh200.py

Hardware: two H200; not run here. The run launches the server on GPU 1 itself and stops it at the end; the
server has that GPU. Training, compiled for the other (benchmarks/plan.md), leaves 54 GiB of the 131 that JAX
gets. scripts/plan.py --config=configs/scale/agora_2xh200.py --model_config=configs/shapes/qwen3_30b_a3b.json
counts the trainer's.
From the original: 3 epochs of 4 iterations, 32 episodes in each (2 batches of 16) in groups of 4, one update
at 3e-5, a context of 4,096 tokens, 4 rollouts at a time, as many as a human judge can follow; without one
--config.servers.concurrency=32 is faster.
What to expect: 12 steps move little: watch policy/kl_loss, mismatch/kl (bfloat16 on two programs: about 1e-3;
above that --config.algorithm.corrections=tis) and sync/seconds. Merged expert tensors go to the server after
each update, 57 GB through shared memory; where this vLLM runs adapters on experts,
--config.servers.weight_sync_backend=adapter sends 1.6 GB instead. agora_gspo_qwen3_moe is the same on one
GPU.
"""
from configs.shared.agora import agora


def get_config():
    config = agora()
    config.run_dir = "runs/agora_2xh200"
    config.rollout.backend = "vllm"
    config.servers.python = ".venv-vllm/bin/python"
    config.servers.gpus = "1"
    config.servers.concurrency = 1  # requests at a time, of four episodes each
    config.servers.request_timeout = 1800.0
    return config
