"""Folders of runs as the viewer meets them: episodes of several turns with all columns of a row."""
import json
import math
import pathlib
import random
from typing import Any

from tests.helpers import templates

HOSTILE = ("<script>window.ran = 1</script>", '<img src=x onerror="window.ran = 2">',
           "javascript:window.ran=3", "</div><style>body{display:none}</style>", "\u202etxet desrever\u202c",
           "a\u0000b\u001b[31m", "{{7*7}}", '"><svg onload=window.ran=4>', "\\\" \\\\ \"reward\": 9",
           "你好 é 🙂")
GOALS = ("oak planks", "a stick", "a stone pickaxe", "a torch", "a crafting table", "a bowl", "a ladder",
         "a chest")


def write_run(folder: pathlib.Path,
              *,
              steps: int = 12,
              groups: int = 4,
              group_size: int = 4,
              seed: int = 0,
              lift: float = 0.0,
              texts: tuple[str, ...] = ()) -> pathlib.Path:
    """Writes a run whose rewards rise: metrics, trajectories, and its tokenizer."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = templates.byte_level(templates.QWEN25)
    tokenizer.save_pretrained(folder / "model")
    (folder / "config.json").write_text(json.dumps({"model": {"path": str(folder / "model")}}))
    rows = []
    metrics = []
    for step in range(1, steps + 1):
        skill = min(0.95, 0.1 + lift + 0.8 * step / steps)
        drawn = [
            row(tokenizer, rng, step, step * groups + group, sample, skill, texts)
            for group in range(groups)
            for sample in range(group_size)
        ]
        rows += drawn
        metrics.append(measured(step, [each["reward"] for each in drawn], rng, skill))
    (folder / "trajectories.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in metrics))
    return folder


def measured(step: int, rewards: list[float], rng: random.Random, skill: float) -> dict[str, float]:
    return {
        "step": step,
        "reward/mean": sum(rewards) / len(rewards),
        "policy/entropy": 2.2 * math.exp(-skill * 2),
        "policy/loss": rng.gauss(0, 0.02),
        "policy/grad_norm": abs(rng.gauss(0.4, 0.1)),
        "mismatch/kl": abs(rng.gauss(1e-4, 3e-5)),
        "completion/length_mean": 120 - 40 * skill + rng.gauss(0, 3),
        "rollout/turns_mean": 5 - 2 * skill
    } | ({
        "eval/pass_at_1": skill
    } if step % 3 == 0 else {})


def row(tokenizer: Any,
        rng: random.Random,
        step: int,
        sequence: int,
        sample: int,
        skill: float,
        texts: tuple[str, ...] = ()) -> dict[str, Any]:
    """One episode: a thought and an action a turn, and what the environment says to it."""
    goal = GOALS[sequence % len(GOALS)]
    prompt = tokenizer.apply_chat_template([{
        "role": "system",
        "content": "You craft things. Recipes: 4 oak planks from 1 oak log; 4 sticks from 2 "
        "planks. Answer with Thought and Action."
    }, {
        "role": "user",
        "content": f"Goal: craft {goal}."
    }],
                                           tokenize=False,
                                           add_generation_prompt=True)
    prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
    won = rng.random() < skill
    failed = rng.random() < 0.06
    ids = []
    mask = []
    turns = []
    messages = []
    count = rng.randint(2, 4)
    for turn in range(count):
        said = rng.choice(texts) if texts else rng.choice(
            (f"I need {goal} first.", "Let me look at what I have."))
        text = f"Thought: {said}\n\nAction: " + rng.choice(("get 1 oak log", "inventory", f"craft {goal}"))
        drawn = tokenizer.encode(text + "<|im_end|>", add_special_tokens=False)
        turns.append([len(ids), len(ids) + len(drawn), float(won and turn == count - 1)])
        ids += drawn
        mask += [1] * len(drawn)
        seen = rng.choice(texts) if texts else rng.choice(
            ("Got 1 oak log", f"Could not find {goal}", "Inventory: [oak log] (2)"))
        messages.append([] if turn == count - 1 else [{"role": "user", "content": seen}])
        if turn < count - 1:
            between = tokenizer.encode(f"\n<|im_start|>user\n{seen}<|im_end|>\n<|im_start|>assistant\n",
                                       add_special_tokens=False)
            ids += between
            mask += [0] * len(between)
    logprobs = [round(-rng.expovariate(1.5 if rng.random() < 0.8 else 0.3), 5) * drawn for drawn in mask]
    return {
        "step": step,
        "phase": "train",
        "sequence": sequence,
        "sample": sample,
        "prompt_index": sequence % 40,
        "prompt_ids": prompt_ids,
        "prompt": tokenizer.decode(prompt_ids, skip_special_tokens=True),
        "completion_ids": ids,
        "completion": tokenizer.decode(ids, skip_special_tokens=True),
        "loss_mask": mask,
        "logprobs": logprobs,
        "policy_version": [step - 1] * len(ids),
        "reward": float(won),
        "info": {
            "correct": float(won),
            "rounds": float(count)
        },
        "turns": turns,
        "used_reward": float(won),
        "advantage": round(rng.gauss(0.5 if won else -0.4, 0.3), 4),
        "truncated": False,
        "outcome": "unreachable" if failed else "finished" if won or rng.random() < 0.5 else "truncated",
        "message": "The environment at http://127.0.0.1:8081 did not answer." if failed else "",
        "messages": messages,
        "branches": [],
        "trainer_logprobs": [value + rng.gauss(0, 0.02) * bool(value) for value in logprobs]
    }
