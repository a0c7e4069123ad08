"""Kernels in three turns: a small Qwen3-MoE, made from scratch, learns on a CPU what a Triton kernel is made
of.

    python scripts/train.py --config=configs/kernels/tiny_triton_grpo.py
    python scripts/serve.py kernels --port=18188
    python scripts/train.py --config=configs/kernels/tiny_triton_grpo.py \\
        --config.env.name="triton_choices(url='http://127.0.0.1:18188')"

Hardware: two CPU cores and 8 GiB, torch and Triton (pip install 'jaxrl-moe[kernels]').
What happens: a problem asks for a reduction of each row of a matrix, such as "the max of exp x". The policy
chooses what a template is filled with: the map, the reduction, what stands in for elements beyond a row's
end, the mask's bound, the type and the block; the whole source that this makes is judged as any other, by
Triton's interpreter and compiled for an H100. SFT imitates pupils who know what is asked and often not how a
kernel does it; GRPO with LoRA on all linear layers then plays eight episodes of each of 12 problems, of up to
three turns, in which errors come back. Three other problems are held out. The first verdict on a source takes
about a second of a core, and a server keeps it (make learn-kernels).
"""
from configs.shared.agents import small_player


def get_config():
    config = small_player("kernel_choices", "runs/tiny_triton")
    config.env.name = "triton_choices"
    config.data.max_prompt_tokens = 32
    config.scratch.context = 288
    config.episodes.max_tokens = 256
    config.sft.max_tokens = 288
    config.sft.steps = 100
    config.sft.sequences_per_step = 32
    config.rollout.max_tokens = 48
    config.rollout.prompts_per_step = 12
    config.algorithm.turn_gamma = 0.4
    config.train.steps = 40
    config.eval.samples = 16
    return config
