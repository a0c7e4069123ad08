"""A tiny but complete run: a random model, sums as prompts, the GSM8K reward, whose length penalty makes
groups differ."""
import json
import pathlib
import random
from typing import Any

from ml_collections import ConfigDict

from jaxrl_moe.config import base
from tests.helpers.templates import HERMES_TOOLS
from tests.helpers.tiny_models import make_checkpoint


def make_files(folder: pathlib.Path) -> pathlib.Path:
    """Writes model/, train.jsonl, eval.jsonl and sft.jsonl."""
    make_checkpoint(folder / "model", num_hidden_layers=2, max_position_embeddings=128)
    generator = random.Random(0)
    for name in ("train", "eval", "sft"):
        rows = []
        for _ in range(24):
            a = generator.randint(1, 9)
            b = generator.randint(1, 9)
            rows.append({"question": f"{a} + {b} = ?", "answer": f"It is {a + b}.\n#### {a + b}"})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_talking_files(folder: pathlib.Path) -> pathlib.Path:
    """As make_files, with a chat template that takes tools, and room for conversations."""
    make_files(folder)
    (folder / "model/chat_template.jinja").write_text(HERMES_TOOLS.replace("{{ bos_token }}", ""))
    config = json.loads((folder / "model/config.json").read_text())
    (folder / "model/config.json").write_text(json.dumps(config | {"max_position_embeddings": 512}))
    return folder


def settings(files: pathlib.Path, run_dir: pathlib.Path, **overrides: Any) -> ConfigDict:
    """A recipe over the files: every part that has state is on (dropout, several updates a batch,
    evaluation)."""
    config = base()
    config.run_dir = str(run_dir)
    config.model.path = str(files / "model")
    config.data.path = str(files / "train.jsonl")
    config.data.eval_path = str(files / "eval.jsonl")
    config.data.max_prompt_tokens = 32
    config.env.name = "gsm8k"
    config.lora.rank = 4
    config.lora.dropout = 0.1
    config.lora.targets = ("q_proj", "down_proj")
    config.rollout.prompts_per_step = 3
    config.rollout.group_size = 4
    config.rollout.max_tokens = 24
    config.rollout.slots = 12
    config.rollout.page_size = 16
    config.algorithm.minibatches = 2
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 2
    config.train.steps = 6
    config.train.tokens_per_micro_batch = 1024
    config.train.pack = False
    config.eval.every = 3
    config.eval.prompts = 4
    config.eval.samples = 4
    config.eval.greedy = True
    config.checkpoint.every = 2
    config.sft.path = str(files / "sft.jsonl")
    config.sft.steps = 0
    config.sft.sequences_per_step = 4
    config.sft.max_tokens = 96
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in overrides.items()})
    return config


RECIPE = '''
import pathlib
from tests.helpers.tiny_run import settings

def get_config():
    return settings(pathlib.Path({files!r}), {run_dir!r}, train__steps={steps})
'''
