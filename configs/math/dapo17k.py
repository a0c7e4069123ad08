"""DAPO on DAPO-17k with Huihui-MoE-1B-A0.6B, LoRA on all linear layers: arXiv 2503.14476.

    pip install 'jaxrl-moe[math]'
    python scripts/train.py --config=configs/math/dapo17k.py

Hardware: that of configs/gsm8k/dapo.py, with twice its tokens; neither planned nor run here.
What to expect: not known yet; pass@k up to 8 is over the 30 problems of AIME 2024, and near 0 for a model of
this size. A larger one takes more GPUs and longer completions: the paper draws 20,480 tokens.
The data set is DAPO-17k without its copies, in English: its reward_model.ground_truth is compared with the
last box of a completion by math-verify, in processes of their own. The reward is 1 or 0.
"""
from configs.gsm8k.dapo import get_config as dapo


def get_config():
    config = dapo()
    config.run_dir = "runs/dapo17k"
    config.env.name = "math(boxed=true)"
    config.data.path = "open-r1/DAPO-Math-17k-Processed:en"
    config.data.eval_path = "HuggingFaceH4/aime_2024"
    config.data.eval_split = "train"  # it has no other
    config.data.suffix = "\nThink step by step, and put the final answer into \\boxed{}."
    config.data.max_prompt_tokens = 512
    config.rollout.max_tokens = 1024
    config.algorithm.overlong_tokens = 1024
    config.algorithm.overlong_cushion = 204
    config.eval.prompts = 30
    config.eval.samples = 8
    return config
