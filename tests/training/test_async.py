"""Rollouts that run ahead, in the loop: what a source hands to it, whole runs on a tiny model, their ends and
their resumption."""
import dataclasses
import itertools
import json
import os
import shutil
import signal
import time

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridges
from jaxrl_moe.checks.entry import refuse_before_run
from jaxrl_moe.checks.start import training
from jaxrl_moe.config import (
    AlgorithmSection,
    Config,
    ConfigError,
    DataSection,
    LoraSection,
    OptimizerSection,
    RolloutSection,
    TrainSection,
    resolve,
)
from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.prepare import prepare
from jaxrl_moe.learning.update import update
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.runs import monitor
from jaxrl_moe.runs.metrics import Stopwatch, rollout_metrics
from jaxrl_moe.training import pipeline
from jaxrl_moe.training.source import open_source
from jaxrl_moe.types import Prompt, SamplingParams, Step, UserError
from tests.helpers import tiny_run
from tests.helpers.runs import recomputed, rows, start
from tests.helpers.scripted_engine import PARAMS, PROMPTS, ScriptedEngine, ScriptedTask
from tests.helpers.settings import refuse_settings

AHEAD = dict(rollout__max_staleness=1, algorithm__corrections=("tis",))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


def batches(config, engine, task, steps):
    """The batches that a source hands out, with their metrics and times."""
    draws = Draws(PromptIterator(PROMPTS, seed=0), PROMPTS)
    config = dataclasses.replace(config, train=TrainSection(steps=steps))
    weights = jnp.zeros(1)
    engine.devices = weights.devices() if engine.devices else set()
    episodes = Episodes(task, str, graders=config.rollout.graders)
    with open_source(config, engine, episodes, draws, PARAMS) as source:
        source.publish(weights, 0)
        for step in range(steps):
            watch = Stopwatch()
            batch = source.next(watch)
            yield batch, rollout_metrics(batch.drawn, step,
                                         batch.aborted * PARAMS.n), watch.times(), source.position()
            source.publish(weights, step + 1)


def test_without_staleness_prompts_are_drawn_in_their_order_when_they_are_asked_for():
    class Engine(ScriptedEngine):
        def submit(self, request):
            asked.append((int(request.ids[0]), request.sequence))
            return super().submit(request)

    asked = []
    data = PromptIterator(PROMPTS, seed=0)
    config = dataclasses.replace(Config(), rollout=RolloutSection(prompts_per_step=3))
    for step, (batch, metrics, times, position) in enumerate(batches(config, Engine(), ScriptedTask(), 4)):
        assert asked == [(prompt.index, 3 * step + number)
                         for number, prompt in enumerate(data.next_prompts(3))]
        assert [group.sequence
                for group in batch.used] == [3 * step, 3 * step + 1, 3 * step + 2] and not batch.dropped
        assert metrics["rollout/staleness_max"] == 0 and times.keys() == {
            "time/rollout_s", "time/reward_s", "time/step_s"
        }
        assert position == {"sequence": 3 * step + 3, "data": data.state(), "unfinished": []}
        asked.clear()


def ahead(bound=1, **algorithm):
    dynamic = algorithm.pop("dynamic", False)
    return dataclasses.replace(Config(), algorithm=AlgorithmSection(**algorithm), rollout=RolloutSection(
        prompts_per_step=3, max_staleness=bound, dynamic_sampling=dynamic, graders=1))


def by_index():
    """A task: groups of every third prompt have equal rewards, others do not."""
    count = itertools.count()
    return ScriptedTask(lambda index, tokens: 0.0 if index % 3 == 0 else float(next(count)))


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_of_differing_groups_is_drawn_ahead_and_what_was_set_aside_is_counted(shared):
    engine = ScriptedEngine(lambda *_: 2)
    engine.devices = engine.devices if shared else set()
    seen = []
    for batch, metrics, times, position in batches(ahead(dynamic=True), engine, by_index(), 6):
        assert len(batch.used) == 3 and not batch.surplus and batch.rounds == -(-len(batch.drawn) // 3)
        assert all(group.prompt.index % 3 for group in batch.used) and not any(group.prompt.index % 3
                                                                               for group in batch.constant)
        assert metrics["rollout/staleness_max"] <= 1 and metrics["rollout/aborted_frac"] == 0
        assert times.keys() == {"time/wait_s", "time/rollout_s", "time/reward_s", "time/step_s"}
        seen += [group.sequence for group in batch.drawn]
        assert not {sequence for sequence, _ in position["unfinished"]} & set(seen)
        assert sorted([*seen,
                       *(sequence
                         for sequence, _ in position["unfinished"])]) == list(range(position["sequence"]))
    assert len(seen) > 18


def test_left_out_groups_are_not_replaced_without_dynamic_sampling():
    for batch, *_ in batches(ahead(drop_constant_groups=True), ScriptedEngine(), by_index(), 4):
        assert len(batch.drawn) == 3 and all(group.prompt.index % 3 == 0 for group in batch.constant)
        assert all(group.prompt.index % 3 for group in batch.used)


def test_aborted_rollouts_count_in_the_share_of_lost_ones():
    engine = ScriptedEngine(lambda sequence, sample: 300 if sequence == 0 else 1, pause=0.0003)
    config = dataclasses.replace(ahead(), rollout=dataclasses.replace(ahead().rollout, stragglers="abort"))
    shares = [
        metrics["rollout/aborted_frac"] for _, metrics, *_ in batches(config, engine, ScriptedTask(), 4)
    ]
    assert shares == [0, 2 / 8, 0, 0]


@pytest.mark.slow
def test_a_run_stopped_in_the_middle_goes_on_with_every_draw_trained_once_within_the_bound(
        files, tmp_path, monkeypatch):
    """And its first evaluation, with rollouts in flight, has the bits of an evaluation by an idle engine."""
    assert pipeline.run_all(
        resolve(tiny_run.settings(files, tmp_path / "turn", train__steps=1, eval__every=0)), bridges)
    whole = monitor.ProfilerWindow.before

    def before(window, step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        whole(window, step)

    config = resolve(tiny_run.settings(files, tmp_path / "run", **AHEAD))
    monkeypatch.setattr(monitor.ProfilerWindow, "before", before)
    assert not pipeline.run_all(config, bridges)
    (meta,) = (tmp_path / "run" / "checkpoints" / "3" / "meta").glob("metadata")
    assert json.loads(meta.read_text())["progress"]["unfinished"]
    monkeypatch.setattr(monitor.ProfilerWindow, "before", whole)
    assert pipeline.run_all(config, bridges)
    assert_complete(tmp_path / "run", 1)
    first, idle = ([
        row for row in rows(folder / "trajectories.jsonl")
        if row["phase"] in ("eval", "greedy") and row["step"] == 0
    ] for folder in (tmp_path / "run", tmp_path / "turn"))
    assert first and first == idle
    assert max(row["rollout/staleness_max"] for row in rows(tmp_path / "run" / "metrics.jsonl")[1:]) == 1


def assert_complete(folder, bound, steps=6):
    """Every draw is trained on once, in time, and the log follows from the trajectories."""
    drawn = rows(folder / "trajectories.jsonl")
    logged = rows(folder / "metrics.jsonl")
    train = [row for row in drawn if row["phase"] == "train"]
    assert sorted((row["sequence"], row["sample"])
                  for row in train) == [(one, sample) for one in range(3 * steps) for sample in range(4)]
    assert all(0 <= row["step"] - 1 - version <= bound for row in train for version in row["policy_version"])
    assert [row["step"] for row in logged if row["step"]] == list(range(1, steps + 1))
    for row in logged:
        if row["step"]:
            for name, value in recomputed(row["step"],
                                          [one for one in train if one["step"] == row["step"]]).items():
                assert row[name] == pytest.approx(value, rel=1e-6, abs=1e-9), (name, row["step"])


@pytest.mark.parametrize("meshes", [
    dict(rollout_mesh__data=1), pytest.param(dict(mesh__fsdp=2), marks=pytest.mark.slow),
    pytest.param(dict(mesh__fsdp=2, rollout_mesh__fsdp=2), marks=pytest.mark.slow)])
def test_rollouts_run_ahead_on_devices_of_their_own_and_on_meshes(files, tmp_path, meshes):
    short = dict(train__steps=3, eval__every=0, eval__at_start=False)
    assert pipeline.run_all(resolve(tiny_run.settings(files, tmp_path / "run", **AHEAD, **short, **meshes)),
                            bridges)
    assert_complete(tmp_path / "run", 1, steps=3)


@pytest.mark.slow
def test_a_run_killed_again_and_again_trains_on_every_draw_once(files, compiled, tmp_path):
    recipe = tmp_path / "recipe.py"
    log = tmp_path / "run" / "metrics.jsonl"
    steps = 40
    bound = 2
    text = tiny_run.RECIPE.format(files=str(files), run_dir=str(tmp_path / "run"), steps=steps)
    more = (f"rollout__max_staleness={bound}, rollout__stragglers='abort', algorithm__corrections=('tis',), "
            "eval__every=0")
    recipe.write_text(text.replace(f"train__steps={steps}", f"train__steps={steps}, {more}"))
    for done in (8, 24):
        process = start(recipe, compiled)
        while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > done):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert done < len(log.read_text().splitlines()) < steps
    process = start(recipe, compiled)
    assert process.wait() == 0, process.stdout.read()
    assert_complete(tmp_path / "run", bound, steps)


@pytest.mark.parametrize("bound", [1, 2])
def test_a_small_policy_learns_from_rollouts_that_run_ahead(bound):
    """To draw odd tokens, by GRPO on all weights with truncated importance sampling; half of its tokens are
    odd at first."""
    config = dataclasses.replace(
        ahead(bound, kl_coef=0.0, corrections=("tis",)), lora=LoraSection(rank=0),
        optimizer=OptimizerSection(learning_rate=1e-2),
        rollout=RolloutSection(prompts_per_step=4, group_size=8, max_tokens=8, slots=32, page_size=32,
                               decode_steps=8, max_staleness=bound), data=DataSection(max_prompt_tokens=8),
        train=TrainSection(steps=25, tokens_per_micro_batch=512, pack=False))
    model = Transformer(
        ModelConfig(family="qwen3_moe", vocab_size=64, hidden_size=32, num_layers=2, num_heads=4,
                    num_kv_heads=2, head_dim=8, intermediate_size=48, sparse_layers=(True, True),
                    windows=(0, 0), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24),
        rngs=nnx.Rngs(0))
    learner = build_learner(model, LearnerSettings(config.optimizer, 25))
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    engine = JaxEngine(learner.model(), config.rollout, max_prompt_tokens=8)
    prompts = [Prompt(np.arange(number, number + 4, dtype=np.int32), {}, number) for number in range(16)]
    rewards = []
    ages = []
    draws = Draws(PromptIterator(prompts, seed=0), prompts)
    with open_source(config, engine, Episodes(OddTokens(), str, graders=8), draws,
                     SamplingParams(8, n=8)) as source:
        source.publish(learner.params(), 0)
        for step in range(25):
            batch = source.next(Stopwatch())
            metrics = rollout_metrics(batch.drawn, step)
            rewards.append(metrics["reward/mean"])
            ages.append(metrics["rollout/staleness_mean"])
            update(prepare(batch.used, learner, config), learner, objective, config, step)
            source.publish(learner.params(), step + 1)
    assert np.mean(rewards[:3]) < 0.6 and np.mean(rewards[-5:]) > 0.85, rewards
    assert np.mean(ages[3:]) > 0.3, ages


class OddTokens(SingleTurnTask):
    """Rewards the share of odd tokens; ids are printed as a list."""

    def check_row(self, row, index):
        pass

    def grade(self, row, action):
        return Step(float(np.mean(np.array(json.loads(action.text)) % 2)))


@pytest.fixture(scope="module")
def warmed_up(tmp_path_factory):
    """A folder with the quickstart's SFT done."""
    folder = tmp_path_factory.mktemp("warm") / "run"
    config = quickstart(folder, train__steps=0)
    assert pipeline.run_all(config, bridges)
    return folder


def quickstart(folder, **overrides):
    from configs.quickstart import get_config
    config = get_config()
    overrides |= {"eval__prompts": 256, "eval__greedy": False, "run_dir": str(folder)}
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in overrides.items()})
    return resolve(config)


@pytest.mark.slow
@pytest.mark.parametrize("bound", [1, 2])
def test_rollouts_ahead_learn_as_those_in_turn_do(warmed_up, bound):
    for path in warmed_up.iterdir():
        if path.name not in ("base", "data", "sft"):  # it is another test's
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert pipeline.run_all(
        quickstart(warmed_up, train__steps=60, **(AHEAD | {
            "rollout__max_staleness": bound
        })), bridges)
    logged = rows(warmed_up / "metrics.jsonl")
    assert np.mean([row["rollout/staleness_mean"] for row in logged if "rollout/staleness_mean" in row]) > 0.3
    assert logged[0]["reward/mean"] < 0.5 and logged[-1]["eval/pass_at_1"] > 0.65


@pytest.mark.parametrize("overrides, message", [
    (dict(rollout__stragglers="cut"), "stragglers = 'cut' has no effect with rollout.max_staleness = 0"),
    (dict(rollout__max_staleness=1, rollout__stragglers="drop"), "stragglers = 'drop' is not known"),
    (dict(rollout__max_staleness=1, rollout__stragglers="cut", rollout__backend="vllm",
          servers__urls=("http://localhost:1",)), "which servers do not hand out")
])
def test_settings_of_rollouts_ahead_that_do_nothing_are_refused(files, tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        refuse_settings(resolve(tiny_run.settings(files, tmp_path / "run", **overrides)))


def test_uncorrected_staleness_is_warned_of(files, tmp_path):
    with pytest.warns(UserWarning, match="algorithm.corrections=tis"):
        refuse_before_run(
            training(resolve(tiny_run.settings(files, tmp_path / "run", rollout__max_staleness=2)), bridges))


def test_several_processes_are_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "several", lambda: True)
    config = resolve(tiny_run.settings(files, tmp_path / "run", **AHEAD))
    with pytest.raises(UserError, match="max_staleness = 1 needs a trainer of one process"):
        refuse_settings(config)
