"""Does a judge teach? A small policy writes notices for a task app, and is trained on what a judge of a
rubric gives, both over HTTP as people's own are: the held-out score before GRPO and after it.

    make learn-judges
    python -m benchmarks.judges --seeds=1 --steps=10

The judge's rule stands here, behind POST /api/judge/v1/score; the run knows nothing of it but its numbers.
Runs that are finished under --folder are not begun again, and one that was stopped goes on. The table goes to
benchmarks/judges.md.
"""
import contextlib
import gc
import http.server
import json
import pathlib
import random
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import flags

import bridges
from benchmarks import table
from jaxrl_moe import cli
from jaxrl_moe.config import Config, base, resolve
from jaxrl_moe.judges.records import Verdict, verdict_plain, work_of
from jaxrl_moe.judges.rubric import Criterion, Rubric
from jaxrl_moe.options import define_path
from jaxrl_moe.runs.report import evaluations, read_rows, seconds
from jaxrl_moe.serving.launch import beside_training
from jaxrl_moe.training import pipeline
from jaxrl_moe.types import UserError

SEEDS = (0, 1)
STEPS = 40
LEAST = 0.15  # that GRPO lifts the held-out score by
WORDS = ("red", "green", "blue", "grey", "gold", "pink", "tall", "small", "round", "old", "new", "warm")
INSTANCES = len(WORDS)**2
HELD_OUT = 32
WARM = ("red", "gold", "pink", "round", "old", "warm")
RIGHT = 0.2  # share of the conversations of SFT that say what is asked for
RUBRIC = Rubric("notices", (
    Criterion("words", 0.4, "bounded", "The share of the words asked for that stand in the notice."),
    Criterion("tone", 0.4, "bounded", "The share of its words that are warm."),
    Criterion("short", 0.2, "binary", "It has no more than three words.")))


def define_options() -> None:
    define_path("folder", "runs/judges", "where the runs lie")
    flags.DEFINE_multi_integer("seeds", list(SEEDS), "of model, SFT and RL", lower_bound=0)
    flags.DEFINE_integer("steps", STEPS, "of GRPO", lower_bound=1)


def main() -> None:
    """Trains what is not finished yet, and writes the table; ends with 1 where a judge taught too little."""
    options = flags.FLAGS
    folder = pathlib.Path(options.folder)
    cli.keep_compiled()
    for seed in options.seeds:
        train(folder / f"{options.steps}_steps_{seed}", seed, options.steps)
    text, problems = report(folder, options.steps)
    there = [(folder / f"{STEPS}_steps_{seed}/model").exists() for seed in SEEDS]
    whole = options.steps == STEPS and all(there)
    path = (table.ROOT / "benchmarks" if whole else folder) / "judges.md"
    path.write_text(text)
    print(f"{text}\nwritten to {path}")
    sys.exit(1 if problems else 0)


def train(run_dir: pathlib.Path, seed: int, steps: int) -> None:
    """One run, beside its task app and its judge."""
    if (run_dir / "model").exists():
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    conversations = run_dir / "sft.jsonl"
    conversations.write_text("".join(json.dumps(row) + "\n" for row in rows(seed)))
    with served(APP) as app, served(JUDGE) as judge:
        config = recipe(run_dir, conversations, seed, steps, app, judge)
        if not (ending := pipeline.run_all(config, bridges, beside_training)):
            raise UserError(ending.sentence(config.run_dir))
    jax.clear_caches()  # the next run has programs of its own
    gc.collect()


def recipe(run_dir: pathlib.Path, conversations: pathlib.Path, seed: int, steps: int, app: str,
           judge: str) -> Config:
    """SFT on beginners' notices, then GRPO on the judge's scores."""
    config = base()
    config.seed = seed
    config.run_dir = str(run_dir)
    config.model.path = f"{run_dir}/base"
    config.scratch.vocab_size = 400
    config.scratch.hidden_size = 128
    config.scratch.num_layers = 2
    config.scratch.num_experts = 8
    config.scratch.intermediate_size = 128
    config.scratch.initializer_range = 0.05
    config.scratch.context = 128
    config.sft.path = str(conversations)
    config.sft.steps = 200
    config.sft.sequences_per_step = 32
    config.sft.learning_rate = 3e-3
    config.sft.max_tokens = 64
    config.data.seeds = f"0-{INSTANCES - HELD_OUT - 1}"
    config.data.eval_seeds = f"{INSTANCES - HELD_OUT}-{INSTANCES - 1}"
    config.data.max_prompt_tokens = 32
    config.env.name = f"task_app(url='{app}', max_turns=1, judge_url='{judge}', run='judges')"
    config.endpoint.serve = True
    config.endpoint.port = 0
    config.episodes.max_tokens = 64
    config.rollout.max_tokens = 12
    config.rollout.prompts_per_step = 16
    config.rollout.group_size = 8
    config.rollout.slots = 128
    config.rollout.page_size = 16
    config.rollout.decode_steps = 4
    config.algorithm.kl_coef = 0.001
    config.lora.rank = 16
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 5
    config.train.steps = steps
    config.train.tokens_per_micro_batch = 16384
    config.eval.every = max(1, steps // 4)
    config.eval.samples = 4
    config.checkpoint.every = max(1, steps // 4)
    config.logging.tensorboard = False
    return resolve(config)


def asked(number: int) -> str:
    """What an instance asks for; neighbours ask for unlike words."""
    place = number * 59 % INSTANCES  # 59 has no factor in common with it
    return f"Notice: {WORDS[place % len(WORDS)]} {WORDS[place // len(WORDS)]}"


def rows(seed: int) -> list[Mapping[str, Any]]:
    """Conversations of beginners, of whom some say what is asked for, on instances that are trained on."""
    rng = random.Random(seed)
    made = []
    for _ in range(1600):
        task = asked(rng.randrange(INSTANCES - HELD_OUT))
        words = rng.choices(WORDS, k=rng.randint(1, 5))
        right = rng.random() < RIGHT
        answer = task.removeprefix("Notice: ") if right else " ".join(words)
        made.append({"messages": [{"role": "user", "content": task},
                                  {"role": "assistant", "content": answer}]})
    return made


def scores(task: str, text: str) -> dict[str, float]:
    """The judge's rule."""
    wanted = task.removeprefix("Notice: ").split()
    written = text.split()
    return {"words": sum(word in written for word in wanted) / len(wanted),
            "tone": sum(word in WARM for word in written) / max(1, len(written)),
            "short": float(0 < len(written) <= 3)}


def judged(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer of POST /api/judge/v1/score."""
    work = work_of(body["trace"], "trace")
    given = RUBRIC.checked(scores(work.task, work.shown[0].content))
    return verdict_plain(Verdict(RUBRIC.total(given), given, (), "rule", json.dumps(given)))


def played(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer of POST /rollout: one turn of the policy at the run's endpoint."""
    policy = dict(body["policy"]["config"])
    task = asked(body["env"]["seed"])
    url = f"{policy.pop('inference_url')}/chat/completions"
    said = call(url, policy | {"messages": [{"role": "user", "content": task}]})
    text = said["choices"][0]["message"]["content"] or ""
    step = {"obs": {"text": task}, "tool_calls": [], "reward": None, "done": True, "truncated": False,
            "info": {}}
    return {"run_id": body["run_id"], "branches": {}, "aborted": False, "ops_executed": 2,
            "trajectories": [{"env_id": "notices", "policy_id": "", "steps": [step], "final": None,
                              "length": 1}],
            "metrics": {"episode_returns": [], "mean_return": 0.0, "num_steps": 1, "num_episodes": 1,
                        "details": {}},
            "trace": {"task": task, "turns": [{"text": text}]}}


def call(url: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


Route = Callable[[Mapping[str, Any]], Any]
APP: Mapping[str, Route] = {
    "/health": lambda _: {"healthy": True}, "/info": lambda _: {"service": {"task": {"id": "notices"}}},
    "/rollout": played}
JUDGE: Mapping[str, Route] = {"/api/judge/v1/score": judged}


@contextlib.contextmanager
def served(routes: Mapping[str, Route]) -> Iterator[str]:
    """The URL of a server that answers by functions of the bodies."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def log_message(self, *arguments: Any) -> None:
            """Nothing is logged."""

        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def answer(self, body: Mapping[str, Any]) -> None:
            route = routes.get(self.path.partition("?")[0])
            data = json.dumps({} if route is None else route(body)).encode()
            self.send_response(404 if route is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Listener(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256  # as many connect at once as there are episodes

    server = Listener(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def curve(run_dir: pathlib.Path) -> list[tuple[int, float]]:
    """[(step of GRPO, mean of the judge's scores on held-out instances)]."""
    held_out = evaluations(read_rows(run_dir / "metrics.jsonl"))
    return [(row["step"], row["eval/reward_mean"]) for row in held_out]


def report(folder: pathlib.Path, steps: int) -> tuple[str, list[str]]:
    """(markdown, what is wrong)."""
    lines: list[Sequence[str]] = []
    problems = []
    for run_dir in sorted(folder.glob(f"{steps}_steps_*")):
        if not (run_dir / "model").exists():
            continue
        points = curve(run_dir)
        lift = points[-1][1] - points[0][1]
        seed = run_dir.name.rpartition("_")[2]
        if lift < LEAST:
            problems.append(f"seed {seed}: GRPO lifts the held-out score by {lift:+.3f}, under {LEAST}")
        between = ", ".join(f"{score:.3f}" for _, score in points[1:-1])
        minutes = seconds(read_rows(run_dir / "metrics.jsonl")) / 60
        lines.append([seed, f"{points[0][1]:.3f}", between, f"**{points[-1][1]:.3f}**", f"{lift:+.3f}",
                      f"{minutes:.1f}"])
    header = ["seed", "after SFT", "on the way", f"after {steps} steps", "lift of GRPO", "minutes of RL"]
    intro = ("`make learn-judges`: the mean of a judge's scores, from 0 to 1, on held-out instances of a "
             "task app, whose policy is a small MoE made from scratch. SFT imitates beginners, of whom "
             f"{RIGHT:.0%} say what is asked for; GRPO then has nothing but what the judge answers over "
             "HTTP, a rubric of three criteria behind a rule.\n\n")
    told = "".join(f"- {problem}\n" for problem in problems)
    text = table.heading("judges") + intro + table.rows(header, lines)
    return text + (f"\n{len(problems)} PROBLEMS\n\n{told}" if problems else ""), problems


if __name__ == "__main__":
    define_options()
    cli.run(main, recipe=False)
