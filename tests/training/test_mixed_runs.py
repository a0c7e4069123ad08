"""Runs over several environments: what is drawn, told and saved of each, and killed in the middle."""
import collections
import json
import shutil

import numpy as np
import pytest

import bridges
from jaxrl_moe.config import ConfigError, resolve
from jaxrl_moe.runs import console
from jaxrl_moe.runs.report import read_rows, summary
from jaxrl_moe.training import pipeline
from jaxrl_moe.types import UserError
from tests.helpers import tiny_run
from tests.helpers.runs import assert_same_run, rows, start

WALK = "tests.helpers.walks:Walk"
ENVS = ("sums", "short", "long")
NAME = f"mixed(sums='gsm8k', short='{WALK}(max_turns=2)', long='{WALK}(max_turns=4%s)', normalise=%s)"
MIXED_NAME = {"env__name": NAME % ("", "false")}
MIXED = MIXED_NAME | dict(data__path="", data__eval_path="", data__weights="2,1,3",
             episodes__max_tokens=80, data__max_prompt_tokens=40, rollout__max_tokens=6, train__steps=2,
             eval__every=2, eval__samples=2, eval__prompts=2, lora__dropout=0.0, rollout__prompts_per_step=6,
             rollout__group_size=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a tiny run, and three of its prompts and two held out for each environment."""
    folder = tiny_run.make_files(tmp_path_factory.mktemp("files"))
    for kind in ("train", "eval"):
        lines = (folder / f"{kind}.jsonl").read_text().splitlines()
        for place, env in enumerate(ENVS):
            (folder / f"{env}_{kind}.jsonl").write_text("\n".join(lines[5 * place:5 * place + 5]) + "\n")
    return folder


def of_each(files, kind):
    return ",".join(f"{env}={files}/{env}_{kind}.jsonl" for env in ENVS)


def mixed(files, folder, **settings):
    given = MIXED | dict(data__files=of_each(files, "train"), data__eval_files=of_each(files, "eval"))
    return tiny_run.settings(files, folder, **given | settings)


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert pipeline.run_all(resolve(mixed(files, folder)), bridges)
    return folder


@pytest.mark.slow
def test_each_step_draws_the_weights_shares_and_every_environment_has_its_own_turns(finished):
    drawn = [row for row in rows(finished / "trajectories.jsonl") if row["phase"] == "train"]
    for step in (1, 2):
        groups = {row["sequence"]: row["env"] for row in drawn if row["step"] == step}
        assert collections.Counter(groups.values()) == {"sums": 2, "short": 1, "long": 3}
    turns = {env: max(len(row["turns"]) for row in drawn if row["env"] == env) for env in ENVS}
    assert turns == {"sums": 1, "short": 2, "long": 4}


@pytest.mark.slow
def test_numbers_of_each_environment_follow_from_its_trajectories(finished):
    every = rows(finished / "trajectories.jsonl")
    for metrics in rows(finished / "metrics.jsonl"):
        for env in ENVS:
            own = [row for row in every if row["env"] == env and row["step"] == metrics["step"]]
            train = [row for row in own if row["phase"] == "train"]
            right = [row["info"]["correct"] for row in train]
            if metrics["step"]:
                found = [metrics[f"env/{env}/{name}"] for name in ("reward", "success", "count", "turns")]
                assert found == pytest.approx([np.mean([row["reward"] for row in train]), np.mean(right),
                                               len(train), np.mean([len(row["turns"]) for row in train])])
            if "eval/reward_mean" in metrics:
                evaluated = [row for row in own if row["phase"] == "eval"]
                assert metrics[f"eval/{env}/count"] == 2 and len(evaluated) == 4
                assert metrics[f"eval/{env}/pass_at_1"] == pytest.approx(
                    np.mean([row["info"]["correct"] for row in evaluated]))
                greedy = [row["info"]["correct"] for row in own if row["phase"] == "greedy"]
                assert metrics[f"eval/{env}/greedy"] == pytest.approx(np.mean(greedy)) and len(greedy) == 2


@pytest.mark.slow
def test_the_console_and_the_report_tell_of_each_environment(finished):
    metrics = read_rows(finished / "metrics.jsonl")
    line = console.summary(metrics[-1])
    for env in ENVS:
        assert f"  {env} {metrics[-1][f'env/{env}/success']:.3f}" in line
        assert f"  held-out {env} {metrics[-1][f'eval/{env}/pass_at_1']:.3f}" in line
        told = dict(summary(metrics, []))[f"accuracy after RL, {env}"]
        assert told.startswith(f"pass@1 {metrics[-1][f'eval/{env}/pass_at_1']:.3f}, greedy ")
    assert (finished / "reward_curve.png").stat().st_size > 10000


@pytest.mark.slow
def test_a_mixed_run_killed_in_mid_episode_goes_on_to_the_same_bits(files, compiled, finished, tmp_path):
    text = ("import pathlib\nfrom tests.training.test_mixed_runs import mixed\ndef get_config():\n"
            "    return mixed(pathlib.Path({files!r}), {folder!r}, **{settings!r})\n")
    name = NAME % (f", kill_at=60, killed=\\'{tmp_path}/mark\\'", "false")
    recipe = tmp_path / "killed.py"
    settings = {"env__name": name, "checkpoint__every": 1, "train__steps": 3}
    recipe.write_text(text.format(files=str(files), folder=str(tmp_path / "killed"), settings=settings))
    killed = start(recipe, compiled)
    assert killed.wait() == -9, killed.stdout.read()
    assert len(rows(tmp_path / "killed" / "metrics.jsonl")) > 1
    again = start(recipe, compiled)
    output = again.communicate()[0]
    assert again.returncode == 0, output
    whole = tmp_path / "whole"
    shutil.copytree(finished, whole)
    assert pipeline.run_all(resolve(mixed(files, whole, **settings | MIXED_NAME)), bridges)
    assert_same_run(whole, tmp_path / "killed")


@pytest.mark.slow
def test_other_weights_or_files_in_another_order_do_not_go_on_with_a_run(files, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    for changed, told in ((dict(data__weights="1,1,1"), "data.weights: sums=2,short=1,long=3 then"),
                          (dict(data__files=",".join(reversed(of_each(files, "train").split(","))),
                                data__weights="3,1,2"), "in another sequence")):
        with pytest.raises(UserError, match=told):
            pipeline.run_all(resolve(mixed(files, tmp_path / "run", train__steps=4, **changed)), bridges)


@pytest.mark.parametrize("settings, told", [
    (dict(data__path="x.jsonl"), "data.path = 'x.jsonl' and data.files = .* both say what the prompts are"),
    (dict(data__seeds="0-3"), "data.seeds = '0-3' and data.files = .* both say"),
    (dict(data__eval_path="x.jsonl"), "data.eval_path = 'x.jsonl' and data.eval_files = .* both say"),
    (dict(sft__files="a=x"), "sft.path = .* and sft.files = 'a=x' both say what the conversations are"),
    (dict(data__weights="1,2"), "data.weights = '1,2' has 2 numbers, and there are 3 files"),
    (dict(data__weights="1,0,2"), "gives short the weight '0'"),
    (dict(data__weights="sums=1,short=1,lang=1"), "weighs 'lang', and there is no such file"),
    (dict(data__files="", data__path="{files}/train.jsonl"), "data.weights = '2,1,3' has no effect"),
    (dict(data__generate="babyai"), "data.generate = 'babyai' has no name"),
    (dict(data__generate="sums=babyai,long=babyai_terse"), "would make 2 sets of data in the folder"),
    (dict(data__files="sums={files}/train.jsonl,short={files}/gone.jsonl,long={files}/eval.jsonl"),
     "data.files: There is no data file '.*gone.jsonl'"),
    (dict(data__files="sums={files}/train.jsonl,shirt={files}/eval.jsonl,long={files}/sft.jsonl",
          data__weights=""), "eval.jsonl, row 1: The row has env = 'shirt'.* Did you mean 'short'"),
    (dict(data__files="", data__weights="", data__path="{files}/train.jsonl"),
     "train.jsonl, row 1: The row does not say which environment it is of"),
    (dict(data__files="", data__weights="", data__path="{files}/named.jsonl"),
     "named.jsonl, row 2: The row has env = 'walk'"),
    (dict(data__files="sums={files}/named.jsonl", data__weights=""),
     "named.jsonl, row 1 has env = 'long', and its file is that of 'sums'")])
def test_what_cannot_be_mixed_is_told_before_the_run(files, tmp_path, settings, told):
    row = {"question": "1 + 1 = ?", "answer": "#### 2"}
    lines = [json.dumps(row | {"env": env}) for env in ("long", "walk")]
    (files / "named.jsonl").write_text("\n".join(lines) + "\n")
    filled = {name: value.replace("{files}", str(files)) for name, value in settings.items()}
    config = mixed(files, tmp_path / "run", **filled)
    with pytest.raises(ConfigError, match=told):
        pipeline.run_all(resolve(config), bridges)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_rows_of_one_file_may_name_their_environments_themselves(files, tmp_path):
    """Rewards are brought to 0..1 by ranges, and both files and columns are read for evaluations and SFT."""
    named = []
    for kind in ("train", "eval", "sft"):
        lines = (files / f"{kind}.jsonl").read_text().splitlines()
        names = ("sums", "more") if kind != "sft" else ("a", "a")
        own = [json.loads(line) | {"env": names[place % 2]} for place, line in enumerate(lines)]
        named.append(tmp_path / f"{kind}.jsonl")
        named[-1].write_text("".join(json.dumps(row) + "\n" for row in own))
    config = mixed(files, tmp_path / "run", env__name="mixed(sums='gsm8k', more='gsm8k(binary=true)')",
                   data__files="", data__eval_files="", data__path=str(named[0]), data__weights="",
                   data__eval_path=str(named[1]), train__steps=1, episodes__max_tokens=0, sft__steps=2,
                   sft__path="", sft__files=f"a={named[2]},b={files}/sft.jsonl")
    assert pipeline.run_all(resolve(config), bridges)
    last = rows(tmp_path / "run/metrics.jsonl")[-1]
    assert last["env/sums/count"] + last["env/more/count"] == 12 and last["eval/sums/count"] == 2
    wrong = [row for row in rows(tmp_path / "run/trajectories.jsonl") if not row["info"]["correct"]]
    shares = {(row["env"], row["info"]["overlong"]): row["reward"] for row in wrong
              if not row["info"]["marker"]}
    assert shares and all(share == pytest.approx(0.05 * (1 - overlong) / 1.1 if env == "sums" else 0)
                          for (env, overlong), share in shares.items())
    assert "a=" in (tmp_path / "run/sft/config.json").read_text()
