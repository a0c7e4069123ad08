"""Multi-turn GRPO of Qwen3-8B that writes Triton kernels, with the numbers of slime's run, from the
checkpoint of configs/kernels/qwen3_8b_triton_sft.py.

    python scripts/kernel_rows.py --split=train --out=kernels.jsonl
    python scripts/kernel_rows.py --split=test --out=kernels_held_out.jsonl
    python scripts/serve.py kernels --port=18188
    python scripts/verify_setup.py --config=configs/kernels/qwen3_8b_triton_grpo.py
    CUDA_VISIBLE_DEVICES=0,1,2,3 python scripts/train.py --config=configs/kernels/qwen3_8b_triton_grpo.py

KernelBench's problems come from --problems=ScalingIntelligence/KernelBench --files_split=level_1, or from a
folder of its files.
Hardware: six GPUs, and one or more for the evaluation server, which times candidates on them; not run here.
Without one for it, --config.env.name="triton_kernels(url='http://127.0.0.1:18188')" rewards correctness
alone. The run launches a server of SGLang on each of GPUs 4 and 5, and stops them at the end.
From the original: three turns discounted by 0.4, whose context accumulates, 4 problems with 4 episodes each
and one update of them, turns of up to 12,288 tokens at T = 0.8, learning rate 1e-6, betas 0.9 and 0.98,
weight decay 0.1, clip 0.2 and 0.28, entropy 0.001, 0.01 of the k3 KL to a frozen copy, tensor 2 x context 2,
saved every 50 steps. An episode ends early at a reward of 1.3, or where the same failure comes twice.
What happens: env/correct_by_turn_1 to _3, env/reward_turn_1 to _3, env/compiled, env/fast_1 and
env/quarantined say how the turns do; env/timed is 0 where nothing is timed, and the speed-up's share of the
reward then is 0.
"""
from configs.shared.slime import slime_qwen3_8b
from jaxrl_moe.config import base


def get_config():
    config = slime_qwen3_8b(base())
    config.run_dir = "runs/qwen3_8b_triton_grpo"
    config.model.path = "runs/qwen3_8b_triton_sft/sft/model"
    config.env.name = "triton_kernels(url='http://127.0.0.1:18188', measure=true)"
    config.data.path = "kernels.jsonl"
    config.data.eval_path = "kernels_held_out.jsonl"
    config.data.max_prompt_tokens = 2048
    config.episodes.max_tokens = 38400  # three turns and two observations; with the prompt, what Qwen3 reads
    config.episodes.step_timeout = 1200.0
    config.algorithm.returns = "trajectory"
    config.algorithm.turn_gamma = 0.4
    config.train.steps = 1000
    config.train.tokens_per_micro_batch = 40960
    config.eval.every = 50
    config.checkpoint.every = 50
    return config
