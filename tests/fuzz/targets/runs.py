"""What a run left: checkpoints, logs and settings, as a run that goes on reads them,
and as its export does."""
import dataclasses
import inspect
import json
import pathlib
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

import bridges
from bridges.compare.score import read_ids
from bridges.training_runs import find_step, load_run
from jaxrl_moe.checks import run_dir
from jaxrl_moe.config import Config, LoraSection, ModelSection, OptimizerSection, to_json
from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.distributed.chips import find_chip
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.runs import report, run
from jaxrl_moe.runs.checkpoints.checkpoint import Checkpoints, Progress
from jaxrl_moe.runs.checkpoints.identity import identity
from jaxrl_moe.types import Prompt
from tests.fuzz.mutators import mutate_bytes, mutate_json, mutate_lines
from tests.fuzz.reading import Damaged, broken, damage, number, same, strict, text, whole
from tests.fuzz.runner import Target
from tests.fuzz.targets.models import SMALL
from tests.helpers.parity import randomise_adapters
from tests.helpers.tiny_models import make_checkpoint

PROMPTS = [Prompt(np.array([index, 5], np.int32), {"question": str(index)}, index) for index in range(7)]
STATE = {"trainable": {"a": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), "b": np.arange(500.0)},
         "opt_state": (np.int32(7), {"mu": np.full((3, 4), 1 / 3, np.float32)})}
IDENTITY = {"model hidden_size": 32, "model rope": {"theta": 1e4}, "lora rank": 4, "base weights": "0123abcd"}
LAST = 4  # step of the newest checkpoint
PROGRESS = {"step": whole(LAST, LAST), "sequence": whole(0), "best_score": number(), "kl_coef": number(0),
            "unfinished": lambda value: isinstance(value, list) and all(
                isinstance(pair, list) and len(pair) == 2 and all(map(whole(0), pair)) for pair in value),
            "data": lambda value: isinstance(value, dict)}


def like() -> Any:
    return jax.tree.map(jnp.zeros_like, jax.tree.map(jnp.asarray, STATE))


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a checkpoint, in an order that the random names of some do not change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: (len(path.name) < 30, path.name[:len(path.name) % 30],
                                             path.stat().st_size))


def some_bytes(rng: random.Random, path: pathlib.Path) -> tuple[bytes | None, str]:
    """A damaged file of a checkpoint: as JSON where it is such."""
    data = path.read_bytes()
    if rng.random() < 0.1:
        return None, "missing"
    if data.startswith(b"{") and rng.random() < 0.7:
        return mutate_json(rng, data)
    return mutate_bytes(rng, data)


class CheckpointFiles(Target):
    """The newest checkpoint of a run: the run goes on from its very bits, or not at all."""
    name = "checkpoint"
    writes = ("run",)
    system_errors = True
    share = 1.5

    def prepare(self, inputs: pathlib.Path) -> None:
        draws = Draws(PromptIterator(PROMPTS, seed=3), PROMPTS)
        checkpoints = self._open(inputs)
        for step in (2, LAST):
            taken = draws.take(3)
            position = draws.position(taken[2:])
            progress = Progress(step=step, best_score=0.5, kl_coef=0.1, **position)
            checkpoints.save(jax.tree.map(lambda leaf, step=step: jnp.asarray(leaf) * step, STATE), progress,
                             0.1 * step)
        self.progress = json.loads(json.dumps(dataclasses.asdict(progress)))

    def _open(self, inputs: pathlib.Path) -> Checkpoints:
        return Checkpoints(inputs / "run/checkpoints", keep=2, identity=IDENTITY, config={"seed": 0})

    def mutate(self, rng, inputs):
        folder = inputs / f"run/checkpoints/{LAST}"
        files = files_of(folder)
        path = folder / "meta/metadata" if rng.random() < 0.4 else rng.choice(files)
        changed, done = some_bytes(rng, path)
        name = str(path.relative_to(inputs))
        return {name: changed}, f"{name}: {done}"

    def call(self, arena):
        state, progress = self._open(arena.inputs).restore(like())
        draws = Draws(PromptIterator(PROMPTS, seed=3), PROMPTS)
        draws.restore(dataclasses.asdict(progress))
        return state, progress, [sequence for _, sequence in draws.take(3)]

    def judge(self, arena, result):
        state, progress, _ = result
        if progress.step != LAST and type(progress.step) is int:
            return f"another checkpoint was taken without a word: {progress.step}"
        for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(STATE), strict=True):
            want = np.asarray(jnp.asarray(theirs) * LAST)
            if np.asarray(ours).tobytes() != want.tobytes():
                return f"other arrays: {np.asarray(ours).ravel()[:4]} and not {want.ravel()[:4]}"
        wrong = damage(arena.inputs / f"run/checkpoints/{LAST}/meta/metadata")
        got = json.loads(json.dumps(dataclasses.asdict(progress)))
        if wrong:
            return wrong
        meta = strict((arena.inputs / f"run/checkpoints/{LAST}/meta/metadata").read_bytes())
        wrong = broken(meta["progress"], PROGRESS)
        if not wrong and not same(meta.get("identity"), IDENTITY):
            wrong = f"another identity: {str(meta.get('identity'))[:100]}"
        for key in got:
            if not wrong and not same(got[key], meta["progress"].get(key)):
                there = meta["progress"].get(key)
                wrong = f"progress was made up: {key} = {got[key]!r}, in the file {there!r}"
        return wrong


class RunExport(Target):
    """The newest checkpoint of a LoRA run, merged into its base as `python -m bridges export` does."""
    name = "run-export"
    share = 0.7

    def prepare(self, inputs):
        make_checkpoint(inputs / "base", "qwen3", tokenizer=False, **SMALL | dict(num_hidden_layers=1))
        section = LoraSection(rank=4, alpha=8.0, targets=("q_proj",))
        model = bridges.load_model(inputs / "base", lora=LoraConfig(4, 8.0, targets=("q_proj",)))
        randomise_adapters(model)
        learner = build_learner(model, LearnerSettings(OptimizerSection(), 10))
        config = to_json(Config(model=ModelSection(path=str(inputs / "base")), lora=section))
        named = identity(dataclasses.asdict(learner.config), config["lora"], learner.stored(),
                         learner.parts.frozen)
        checkpoints = Checkpoints(inputs / "run/checkpoints", keep=2, config=config, identity=named)
        checkpoints.save(learner.stored(), Progress(step=LAST))
        self.want: dict[str, np.ndarray] = {}

    def mutate(self, rng, inputs):
        folder = inputs / f"run/checkpoints/{LAST}"
        files = files_of(folder)
        path = folder / "meta/metadata" if rng.random() < 0.5 else rng.choice(files)
        if path.name == "metadata" and path.parent.name == "meta" and rng.random() < 0.8:
            changed, done = mutate_json(rng, path.read_bytes(), ("config", "identity"))
        else:
            changed, done = some_bytes(rng, path)
        name = str(path.relative_to(inputs))
        return {name: changed}, f"{name}: {done}"

    def call(self, arena):
        model, base = load_run(find_step(arena.inputs / "run"))
        return bridges.export_model(model, arena.output / "model", source=base)

    def judge(self, arena, result):
        written = safetensors.numpy.load_file(result / "model.safetensors")
        self.want = self.want or written
        for name, array in self.want.items():
            if not np.array_equal(written[name], array, equal_nan=True):
                return f"other weights: {name}"
        return damage(arena.inputs / f"run/checkpoints/{LAST}/meta/metadata")


LOGS = ("metrics.jsonl", "trajectories.jsonl", "moe_load.jsonl", "served.jsonl")


class Logs(Target):
    """The logs of a run that goes on: cut back to its newest checkpoint, and no row that stays is changed."""
    name = "logs"
    writes = ("run",)
    system_errors = True

    def prepare(self, inputs):
        folder = inputs / "run"
        folder.mkdir()
        for name in LOGS:
            rows = [{"step": step, "reward/mean": 0.25 * step, "load": [[1, 2]], "info": {"correct": 1.0}}
                    for step in range(1, LAST + 3)]
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._events(folder / "tensorboard")
        section = LoraSection(rank=4, alpha=8.0, targets=("q_proj",))
        self.config = Config(run_dir=str(folder), lora=section)
        make_checkpoint(inputs / "base", "qwen3", tokenizer=False, **SMALL | dict(num_hidden_layers=1))
        model = bridges.load_model(inputs / "base", lora=LoraConfig(4, 8.0, targets=("q_proj",)))
        self.learner = build_learner(model, LearnerSettings(OptimizerSection(), 10))
        self.identity = run.identity(self.learner, self.config)
        checkpoints = Checkpoints(folder / "checkpoints", keep=2, identity=self.identity,
                                  config=to_json(self.config))
        checkpoints.save(self.learner.stored(), Progress(step=LAST))
        (folder / "config.json").write_text(json.dumps(to_json(self.config)))

    def _events(self, folder: pathlib.Path) -> None:
        from jaxrl_moe.runs.writers import TensorBoard
        writer = TensorBoard(folder)
        for step in range(1, LAST + 3):
            writer.write(step, {"reward/mean": 0.25})
        writer.close()

    def mutate(self, rng, inputs):
        names = [*LOGS[:2] * 2, *LOGS[2:], "config.json"]
        names += [str(path.relative_to(inputs / "run")) for path in (inputs / "run/tensorboard").iterdir()]
        name = rng.choice(names)
        data = (inputs / "run" / name).read_bytes()
        if name.endswith(".jsonl"):
            changed, done = (mutate_bytes if rng.random() < 0.3 else mutate_lines)(rng, data)
        else:
            changed, done = (mutate_json if name.endswith("json") and rng.random() < 0.7 else mutate_bytes)(
                rng, data)
        return {f"run/{name}": changed}, f"{name}: {done}"

    def call(self, arena):
        folder = arena.inputs / "run"
        given = {name: (folder / name).read_bytes() for name in LOGS}
        settings = (folder / "config.json").read_bytes()
        ends = (self.learner, lambda progress: LAST + 3, lambda progress: None)
        if "learner" not in inspect.signature(run.open_run).parameters:
            ends = (LAST + 3, self.identity)
        with run.open_run(self.config, folder, "RL", *ends, str) as opened:
            opened.log(LAST + 1, {"reward/mean": 0.5})
        rows = report.read_rows(folder / "metrics.jsonl")
        list(report.summary(rows, []))
        return given, settings, rows

    def judge(self, arena, result):
        given, settings, _ = result
        try:
            if not isinstance(strict(settings), dict):
                return "config.json holds no object"
        except Damaged as error:
            return f"config.json is damaged: {error}"
        for name, data in given.items():
            wrong = self._wrong(name, data, (arena.inputs / "run" / name).read_bytes())
            if wrong:
                return wrong
        return ""

    def _wrong(self, name: str, data: bytes, left: bytes) -> str:
        whole_lines = data.split(b"\n")[:-1]  # a kill may leave the last without its end
        want = []
        for line in whole_lines:
            try:
                row = strict(line)
            except Damaged as error:
                if str(error).endswith("is no number"):  # as a metric may be
                    row = json.loads(line)
                else:
                    return f"{name} has a damaged line: {error}"
            if not isinstance(row, dict) or not whole(0)(row.get("step")):
                return f"{name} has a row without a step: {line[:60]!r}"
            if row["step"] <= LAST:
                want.append(row)
        got = list(map(json.loads, left.split(b"\n")[:-1]))
        got = got[:-1] if name == "metrics.jsonl" else got
        steps = [row["step"] for row in got]
        if name == "metrics.jsonl" and len(set(steps)) < len(steps):
            return f"{name} has a step twice: {steps}"
        return "" if same(got, want) else f"{name} has other rows than it had: {steps}"


class KeptSettings(Target):
    """config.json of a run and of its warm-up, which say whose the folder is."""
    name = "kept-settings"
    share = 0.4
    system_errors = True

    def prepare(self, inputs):
        from jaxrl_moe.phases import sft_config
        self.config = Config(run_dir=str(inputs / "run"))
        (inputs / "run/sft/model").mkdir(parents=True)
        (inputs / "run/sft/adapter").mkdir()
        (inputs / "run/config.json").write_text(json.dumps(to_json(self.config), indent=1))
        (inputs / "run/sft/config.json").write_text(json.dumps(to_json(sft_config(self.config)), indent=1))

    def mutate(self, rng, inputs):
        name = rng.choice(("run/config.json", "run/sft/config.json"))
        data = (inputs / name).read_bytes()
        changed, done = (mutate_bytes if rng.random() < 0.2 else mutate_json)(
            rng, data)
        return {name: changed}, f"{name}: {done}"

    def call(self, arena):
        run_dir.refuse_other_seed(self.config)
        return run_dir.warmed_up(self.config)

    def judge(self, arena, result):
        for name in ("run/config.json", "run/sft/config.json"):
            wrong = damage(arena.inputs / name)
            if wrong:
                return wrong
            values = strict((arena.inputs / name).read_bytes())
            if "seed" in values and not same(values["seed"], 0):
                return f"another seed: {values['seed']!r}"
        pristine = strict((arena.pristine / "run/sft/config.json").read_bytes())
        for section in ("sft", "optimizer", "moe", "scratch"):
            there = values.get(section)
            if there is not None and not isinstance(there, dict):
                return f"a section that is none: {section}"
            for key, value in (there or {}).items():
                if key in pristine[section] and value != pristine[section][key] and key != "replay":
                    return f"another setting of the warm-up: {section}.{key} = {value!r}"
        return ""


class Chips(Target):
    """The JSON file of scripts/plan.py --chips."""
    name = "chips"
    share = 0.3

    def prepare(self, inputs):
        chip = {"flops": 1e15, "memory": 8e10, "bandwidth": 4e12, "link": 4e11, "architecture": {
            "kind": "NVIDIA H100", "capability": [9, 0], "cores": 132, "clock": 1.98, "matrix_clock": 1.83,
            "l2": 52428800, "shared": 233472}}
        (inputs / "chips.json").write_text(json.dumps({"mine": chip}))

    def mutate(self, rng, inputs):
        data = (inputs / "chips.json").read_bytes()
        changed, done = (mutate_bytes if rng.random() < 0.15 else mutate_json)(rng, data)
        return {"chips.json": changed}, done

    named = False  # a chip that is no longer there is named itself

    def call(self, arena):
        return find_chip("mine", str(arena.inputs / "chips.json"))

    def judge(self, arena, result):
        wrong = damage(arena.inputs / "chips.json")
        if wrong:
            return wrong
        chip = strict((arena.inputs / "chips.json").read_bytes())["mine"]
        rules = dict.fromkeys(("flops", "memory", "bandwidth", "link"), number(1))
        inner = dict.fromkeys(("clock", "matrix_clock"), number(0)) | dict.fromkeys(
            ("cores", "l2", "shared"), whole()) | {"kind": text}
        architecture = chip.get("architecture") or {}
        if not isinstance(architecture, dict):
            return f"an architecture that is none: {architecture!r}"
        missing = [key for key in rules if chip.get(key) is None]
        wrong = broken(chip, rules) or broken(architecture, inner)
        return wrong or (f"a chip without {missing[0]}" if missing else "")


class ScoreRows(Target):
    """The rows of `python -m bridges score`."""
    name = "score-rows"
    share = 0.3

    def prepare(self, inputs):
        (inputs / "ids.jsonl").write_text('{"ids": [1, 2, 3]}\n{"ids": [4]}\n{"ids": [5, 6]}\n')

    def mutate(self, rng, inputs):
        data = (inputs / "ids.jsonl").read_bytes()
        changed, done = (mutate_bytes if rng.random() < 0.3 else mutate_lines)(rng, data)
        return {"ids.jsonl": changed}, done

    def call(self, arena):
        return read_ids(arena.inputs / "ids.jsonl", 320)

    def judge(self, arena, result):
        data = (arena.inputs / "ids.jsonl").read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n")
        try:
            rows = [strict(line) for line in data.split(b"\n") if line.strip()]
        except Damaged as error:
            return f"damaged rows: {error}"
        if not rows:
            return "no rows: nothing is scored"
        got = [ids.tolist() for ids in result]
        return "" if same(got, [row["ids"] for row in rows]) else f"other ids: {got}"


TARGETS = (CheckpointFiles, RunExport, Logs, KeptSettings, Chips, ScoreRows)
