"""GSM8K from the hub: questions, the wish for an answer after '####', and the task that reads it."""
from jaxrl_moe.config import base


def gsm8k():
    """The defaults, on GSM8K; evaluations, where a recipe asks for some, take 200 test rows."""
    config = base()
    config.data.path = config.data.eval_path = "openai/gsm8k"
    config.data.suffix = "\nThink step by step, and end with '#### ' and the number."
    config.env.name = "gsm8k"
    config.eval.prompts = 200
    return config


def every(config, steps):
    """Evaluates and saves each so many steps."""
    config.eval.every = config.checkpoint.every = steps
