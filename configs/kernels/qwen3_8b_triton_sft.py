"""SFT of Qwen3-8B on pairs of PyTorch and Triton, from which configs/kernels/qwen3_8b_triton_grpo.py goes on.

    python scripts/kernel_rows.py --problems=GPUMODE/KernelBook --form=sft --out=kernelbook.jsonl
    python scripts/sft.py --config=configs/kernels/qwen3_8b_triton_sft.py
    python scripts/kernel_rows.py --form=sft --out=ours.jsonl
    python scripts/sft.py --config=configs/kernels/qwen3_8b_triton_sft.py --config.sft.path=ours.jsonl

sft.path takes KernelBook's pairs, whose code torch.compile wrote, or the solutions of our own problems, which
are few; conversations of several turns, as of scripts/make_trajectories.py --from_run, do too: sft.loss_mask
is slime's "qwen", message by message, so that all assistant turns are trained and keep their reasoning.
Hardware: four GPUs; not run here, and how large they must be was not found out. All weights are trained,
split over tensor 2 x context 2 as in the RL that follows, with masters, moments and gradients in float32, 16
bytes a weight.
What happens: several conversations share a row; the result is runs/qwen3_8b_triton_sft/sft/model. The
learning rate
and the two epochs are ours: the original does not tell of its SFT.
"""
from jaxrl_moe.config import base


def get_config():
    config = base()
    config.run_dir = "runs/qwen3_8b_triton_sft"
    config.model.path = "Qwen/Qwen3-8B"
    config.model.dtype = "bfloat16"
    config.mesh.tensor = 2
    config.mesh.context = 2
    config.sft.path = "kernelbook.jsonl"
    config.sft.loss_mask = "qwen"
    config.sft.epochs = 2
    config.sft.sequences_per_step = 32
    config.sft.max_tokens = 8192
    config.sft.learning_rate = 1e-5
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 20
    config.optimizer.weight_decay = 0.1
    config.train.remat = "full"
    config.checkpoint.every = 100
    return config
