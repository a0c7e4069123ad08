"""GRPO of all weights on eight B200 with experts split over them, rollouts in the same process: the whole of
nmoe's SkyRL example, with GSM8K where no data are given.

    python scripts/verify_setup.py --config=configs/scale/nmoe_8xb200.py
    python scripts/train.py --config=configs/scale/nmoe_8xb200.py --config.data.path=train_data.parquet

Hardware: compiled for eight B200, not run on any: 42 GiB of the 167 that JAX gets are left
(benchmarks/plan.md). Qwen3-30B-A3B stands in for nmoe's own architecture. A device holds its eighth of the
experts and all else, with float32 masters, Adam's moments and gradient; scripts/plan.py
--config=configs/scale/nmoe_8xb200.py --model_config=configs/shapes/qwen3_30b_a3b.json --chip=B200 counts
them.
From the original: batches of 128 prompts of up to 1,024 tokens with 4 completions of up to 2,048, minibatches
of 16 prompts, learning rate 1e-6, clip 0.2, and 0.001 of the k3 KL to a frozen copy of the model. The
original's rollouts come from SGLang on the same GPUs; here the engine shares the trainer's weights, and
nothing has to be sent anywhere. nmoe_grpo is the same for smaller GPUs: there the optimiser's state and that
copy lie in the host's memory (train.offload).
What to expect: moe/max_vio falls or stays where it was; at 1e-6 the reward moves over hundreds of steps.
"""
from configs.shared.nmoe import nmoe


def get_config():
    config = nmoe()
    config.run_dir = "runs/nmoe_8xb200"
    config.rollout.slots = 128
    config.moe.aux_loss_coef = 0.001  # the model's own
    config.train.tokens_per_micro_batch = 65536
    return config
