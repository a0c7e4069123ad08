"""All that can be known before a run is told before it, together, and nothing of the run is there then."""
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys

import pytest

import bridges
from jaxrl_moe.checks import entry, problems
from jaxrl_moe.checks.dry_run import dry_run
from jaxrl_moe.checks.sections import rollout
from jaxrl_moe.checks.start import evaluation, fine_tuning, training
from jaxrl_moe.config import ConfigError, resolve
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.hosts import hosts
from jaxrl_moe.training import assembly, pipeline
from jaxrl_moe.types import Problem
from tests.helpers import processes, tiny_run

ROPE = {"rope_theta": 1e4, "factor": 2.0}
ODD_MODELS = [  # copies of the model: name, file, what it says
    ("added", "config.json", {}),
    ("ends", "generation_config.json", {"eos_token_id": [2, 320]}),
    ("quoted", "config.json", {"tie_word_embeddings": "false"}),
    ("unending", "generation_config.json", {"eos_token_id": "2"}),
    ("dynamic", "config.json", {"max_position_embeddings": 40, "rope_parameters": ROPE
                                | {"rope_type": "dynamic"}}),
    ("yarn", "config.json", {"max_position_embeddings": 40, "rope_parameters": ROPE
                             | {"rope_type": "yarn", "original_max_position_embeddings": 32}})]
SERVERS = {"rollout__backend": "vllm", "servers__urls": ("http://127.0.0.1:9",)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tiny_run.make_files(tmp_path_factory.mktemp("files"))
    (folder / "unanswered.jsonl").write_text(
        json.dumps({"question": "1 + 1 = ?", "answer": "no number"}) + "\n")
    (folder / "silent.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}) + "\n")
    (folder / "broken.jsonl").write_text('{"question": \n')
    (folder / "file").write_text("")
    for name, file, change in ODD_MODELS:
        shutil.copytree(folder / "model", folder / name)
        path = folder / name / file
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    hf = load_tokenizer(str(folder / "model")).hf
    hf.add_tokens([f"<{i}>" for i in range(321 - len(hf))])
    hf.save_pretrained(folder / "added")
    return folder


def recipe(files, folder, **changes):
    """With an SFT phase; {files} in a text stands for the folder of the files."""
    def filled(value):
        return value.format(files=files) if isinstance(value, str) else value

    changes = {"sft__steps": 2} | {key: filled(value) for key, value in changes.items()}
    return resolve(tiny_run.settings(files, filled(folder), **changes))


FAULTS = {
    "an endpoint's key that is not set": (
        {"endpoint__serve": True, "endpoint__port": 0, "endpoint__api_key_env": "NO_SUCH_KEY"},
        r"endpoint.api_key_env = 'NO_SUCH_KEY' names an environment variable that is not set"),
    "an endpoint open to others without a key": ({"endpoint__serve": True, "endpoint__port": 0,
                                                  "endpoint__host": "0.0.0.0"},
                                                 r"endpoint.host = '0.0.0.0' .* no API key"),
    "servers' key that is not set": (SERVERS | {"servers__api_key_env": "NO_SUCH_KEY"},
                                     r"servers.api_key_env = 'NO_SUCH_KEY' .* not set"),
    "a Python for servers that is not there": ({"rollout__backend": "vllm", "servers__python": "/no/python"},
                                               r"servers.python = '/no/python' does not run"),
    "a Python that has no engine": ({"rollout__backend": "vllm", "servers__python": sys.executable},
                                    "has no vllm.*install_vllm_cpu.sh"),
    "adapters that servers cannot take": (SERVERS | {"rollout__backend": "sglang",
                                                     "servers__weight_sync_backend": "adapter"},
                                          "SGLang rejects adapters on experts"),
    "a folder for weights that is not there": (SERVERS | {"servers__sync_folder": "/no/such/folder"},
                                               r"The folder '/no/such/folder', which weights go through"),
    "prompts that are not there": ({"data__path": "nowhere.jsonl"}, r"nowhere.jsonl"),
    "held-out prompts that are no JSON": ({"data__eval_path": "{files}/broken.jsonl"},
                                          r"broken.jsonl, row 1 is not JSON"),
    "a row that the task refuses": ({"data__path": "{files}/unanswered.jsonl"},
                                    r"unanswered.jsonl, row 1: .*no gold number"),
    "conversations that are not there": ({"sft__path": "nowhere.jsonl"}, r"nowhere.jsonl"),
    "a conversation without an answer": ({"sft__path": "{files}/silent.jsonl"},
                                         r"silent.jsonl, row 1 has no assistant turn"),
    "a critic that is not there": ({"algorithm__advantage": "gae", "critic__path": "{files}/model"},
                                   r"holds no critic"),
    "adapters that match nothing": ({"lora__targets": ("q_prj",)}, r"q_prj"),
    "a model that is not there": ({"model__path": "/nowhere/at/all"}, r"/nowhere/at/all"),
    "a folder under a file": ({"folder": "{files}/file/run"}, r"run_dir = .* cannot be made or written to"),
    "added tokens beyond the vocabulary": ({"model__path": "{files}/added"},
                                           r"the token '<\d+>' has the id 320, .* holds 0 to 319"),
    "an end id beyond the vocabulary": ({"model__path": "{files}/ends"},
                                        r"eos_token_id in generation_config.json has the id 320"),
    "a switch in quotes": ({"model__path": "{files}/quoted"},
                           r"quoted/config.json: tie_word_embeddings is .*true or false is needed"),
    "an end id in quotes": ({"model__path": "{files}/unending"}, r"generation_config.json: eos_token_id is"),
    "more than dynamic embeddings can draw": ({"model__path": "{files}/dynamic", "sft__max_tokens": 80},
                                              r"data.max_prompt_tokens.* = 56 is too long.* holds 40 tokens"),
    "more than YaRN stretches to": ({"model__path": "{files}/yarn", "sft__max_tokens": 65},
                                    r"sft.max_tokens = 65 is too long.* holds 64 tokens"),
    "a mesh that does not fit": ({"mesh__data": 16}, r"needs 16 devices, and there are 8"),
    "stop strings that never match": ({"rollout__stop_strings": ("<|im_end|>",)},
                                      r"'<\|im_end\|>', which would never match")}


@pytest.fixture
def nothing_is_trained(monkeypatch):
    def touched(*_, **__):
        raise AssertionError("the run has begun")
    for name in ("build", "load", "sft", "train", "locked", "prepare"):
        monkeypatch.setattr(pipeline, name, touched)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_can_be_known_is_told_before_sft_and_leaves_nothing(files, tmp_path, nothing_is_trained,
                                                                         fault):
    changes, message = FAULTS[fault]
    config = recipe(files, **{"folder": tmp_path / "run"} | changes)
    with pytest.raises(ConfigError, match=message) as refused:
        pipeline.run_all(config, bridges)
    assert len(refused.value.problems) == 1 and not list(tmp_path.iterdir()), refused.value


@pytest.mark.parametrize("changes, absent, message", [
    ({"endpoint__serve": True, "endpoint__port": 0}, "uvicorn",
     r"endpoint.serve needs uvicorn.*extra `serve`: pip install -e \"\.\[serve\]\""),
    ({"logging__wandb_project": "mine"}, "wandb", "logging.wandb_project = 'mine' needs wandb.*pip install "
     "wandb"),
    ({"model__grouped_matmul": "tokamax"}, "tokamax", "needs the package tokamax, which is not installed"),
    (SERVERS, "httpx", r"rollout.backend = 'vllm' needs httpx.*\[servers\]"),
    (SERVERS | {"servers__weight_sync_backend": "distributed"}, "torch",
     r"needs torch.*jaxrl-moe\[distributed\]")])
def test_an_extra_that_is_not_installed_is_named_with_its_command(files, tmp_path, nothing_is_trained,
                                                                  monkeypatch, changes, absent,
                                                                  message):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == absent else real(name)
                        or object())
    with pytest.raises(ConfigError, match=message) as refused:
        pipeline.run_all(recipe(files, tmp_path / "run", **changes), bridges)
    assert len(refused.value.problems) == 1 and not list(tmp_path.iterdir())


def test_a_port_in_use_is_refused(files, tmp_path, nothing_is_trained):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = recipe(files, tmp_path / "run", endpoint__serve=True, endpoint__port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match=f"endpoint.port = {config.endpoint.port} cannot be listened "
                           f"on"):
            pipeline.run_all(config, bridges)
    assert not entry.before_run(training(config, bridges)) and not list(tmp_path.iterdir())


def test_an_endpoint_is_refused_in_a_job_of_several_processes(files, tmp_path, monkeypatch):
    config = recipe(files, tmp_path / "run", endpoint__serve=True, endpoint__port=0)
    assert not list(rollout.endpoint_problems(training(config, bridges)))
    monkeypatch.setattr(hosts, "several", lambda: True)
    [problem] = rollout.endpoint_problems(training(config, bridges))
    assert str(problem) == ("endpoint.serve needs a job of one process, and this one has several: "
                            "set endpoint.serve=false.")


def test_an_earlier_run_that_shall_not_be_gone_on_with_is_refused_before_sft(files, tmp_path,
                                                                             nothing_is_trained):
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds an earlier run in .*run, and checkpoint.resume is false: "
                       "give another run_dir"):
        pipeline.run_all(recipe(files, tmp_path / "run", checkpoint__resume=False), bridges)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoints"]


def test_all_problems_are_told_together_numbered_and_as_records(files, tmp_path, nothing_is_trained):
    config = recipe(files, tmp_path / "run", data__path="nowhere.jsonl", sft__path="gone.jsonl",
                    lora__targets=("q_prj",), mesh__data=16,
                    rollout__page_size=24, algorithm__loss="gspoo", rollout__stragglers="abort")
    with pytest.raises(ConfigError) as refused:
        pipeline.run_all(config, bridges)
    fields = {problem.field for problem in refused.value.problems}
    assert fields == {"data.path", "sft.path", "lora.targets", "mesh", "rollout.page_size", "algorithm.loss",
                      "rollout.stragglers"}
    lines = str(refused.value).splitlines()
    numbers = [f"{number}. " for number in range(1, 8)]
    assert lines[0] == "7 things stand in the way:" and [line[:3] for line in lines[1:]] == numbers
    assert entry.before_run(training(config, bridges)) == list(refused.value.problems)


def test_what_a_refused_setting_would_have_decided_is_not_judged(files, tmp_path):
    unknown = entry.before_run(training(recipe(files, tmp_path, algorithm__advantage="gpro",
                                               critic__coef=0.5), bridges))
    assert [problem.field for problem in unknown] == ["algorithm.advantage"]
    absent = entry.before_run(training(recipe(files, tmp_path, model__path="/nowhere/at/all",
                                              lora__targets=("q_prj",)), bridges))
    assert [problem.field for problem in absent] == ["model.path"]


def test_rows_are_looked_at_where_the_model_is_still_to_be_made(files, tmp_path):
    new = {"model__path": str(tmp_path / "new"), "scratch__vocab_size": 300, "scratch__context": 128,
           "moe__bias_rate": 0.01,
           "algorithm__kl_coef": 0.0}
    config = recipe(files, tmp_path / "run", **new, data__path="{files}/unanswered.jsonl",
                    sft__path="{files}/silent.jsonl")
    found = entry.before_run(training(config, bridges))
    assert [problem.field for problem in found] == ["moe.bias_rate",
                                                    "data.path"] and not list(tmp_path.iterdir())
    broken = recipe(files, tmp_path / "run", **new, sft__path="{files}/broken.jsonl")
    assert [problem.field for problem in entry.before_run(fine_tuning(broken, bridges))][-1] == "sft.path"


def test_rows_are_looked_at_where_a_phase_or_the_new_tokenizer_reads_them(files, tmp_path):
    new = {"model__path": str(tmp_path / "new"), "scratch__vocab_size": 300, "scratch__context": 128,
           "scratch__num_layers": 1}
    absent = new | {"sft__path": "{files}/absent.jsonl"}
    idle = recipe(files, tmp_path / "run", **absent, sft__steps=0)
    used = recipe(files, tmp_path / "run", **absent)
    assert not entry.before_run(training(idle, bridges)) and not entry.before_run(evaluation(idle, bridges))
    for start in (fine_tuning(idle, bridges), training(used, bridges), evaluation(used, bridges)):
        assert [problem.field for problem in entry.before_run(start)][-1:] == ["sft.path"]
    for start in (fine_tuning, evaluation):
        bare = recipe(files, tmp_path / "run", **new, data__path="{files}/absent.jsonl")
        assert [problem.field for problem in entry.before_run(start(bare, bridges))] == ["data.path"]
        kept = recipe(files, tmp_path / "run", data__path="{files}/absent.jsonl")
        assert not entry.before_run(start(kept, bridges))
    assert not list(tmp_path.iterdir())
    assert len(assembly.prepare(training(idle, bridges)).prompts) == 24


def test_an_adapter_that_is_not_there_is_refused_before_an_evaluation(files, tmp_path, nothing_is_trained):
    with pytest.raises(ConfigError, match="nowhere"):
        pipeline.run_evaluation(recipe(files, tmp_path / "run"), bridges, None, "/nowhere/adapter",
                                tmp_path / "out")
    assert not entry.before_run(evaluation(recipe(files, tmp_path / "run"),
                                           bridges)) and not list(tmp_path.iterdir())


def test_problems_travel_between_processes_as_they_are():
    own = Problem("a.b", ("x", 1.5), "is odd", "choose another")
    told = [own, problems.as_problem("c", None, ConfigError("All of it."))]
    back = problems.unpacked(json.loads(json.dumps(problems.packed(told))))
    assert back == told and list(map(str, back)) == ["a.b = x,1.5 is odd: choose another.", "c: All of it."]
    problems.refuse([])
    with pytest.raises(ConfigError, match=r"^c: All of it\.$"):
        problems.refuse(back[1:])


@pytest.mark.parametrize("begin, words", [
    (training, ["train.jsonl: 24 prompts", "sft.jsonl: 24 conversations", "SFT +2 steps of 4 conversations",
                "RL +6 steps of 3 prompts x 4",
                "run_dir .*starts at step 0", "run/adapter"]),
    (fine_tuning, ["sft.jsonl: 24 conversations", "all weights are trained", "run/sft/model"]),
    (evaluation, ["eval.jsonl: 4 held-out prompts", "engine +in this process, 12 slots, sequences of up to "
                  "56 tokens"])])
def test_a_dry_run_says_what_would_happen(files, tmp_path, begin, words):
    text = dry_run(begin(recipe(files, tmp_path / "run"), bridges))
    assert all(re.search(word, text) for word in [*words, "Nothing speaks against it"]), text
    assert ("RL " in text) == (begin is training) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("options, code", [((), 0), (("--config.rollout.page_size=24",
                                                      "--config.sft.path=gone.jsonl"), 1)])
def test_the_scripts_dry_run_of_the_quickstart_ends_with_0_if_it_could_start(tmp_path, options, code):
    command = [sys.executable, "scripts/train.py", "--config=configs/quickstart.py", "--dry_run",
               f"--config.run_dir={tmp_path / 'run'}"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == code and not list(tmp_path.iterdir()), done.stderr
    if code:
        told = " ".join(done.stderr.split())
        words = ("2 things stand in the way", "rollout.page_size = 24", "gone.jsonl")
        assert all(word in told for word in words), told
    else:
        assert "100 steps of 16 prompts x 16 completions" in done.stdout and "will be made" in done.stdout


@pytest.mark.slow
def test_a_job_of_two_processes_ends_in_both_with_the_same_list(files, tmp_path):
    text = tiny_run.RECIPE.format(files=str(files), run_dir=str(tmp_path / "run"), steps=1)
    (tmp_path / "recipe.py").write_text(text)
    faults = ("--config.data.path=nowhere.jsonl", "--config.endpoint.serve=true", "--config.endpoint.port=0")
    options = [f"--config={tmp_path / 'recipe.py'}", "--config.mesh.data=2", *faults]
    for code, _, err in processes.wait(processes.start("scripts/train.py", 2, *options, devices=2)):
        told = " ".join(err.split())
        assert code == 1 and "2 things stand in the way" in told and "nowhere.jsonl" in told, err
        assert "endpoint.serve needs a job of one process" in told and not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes, fields", [
    ({"env__name": "no_such_module.tasks:Own"}, ["env.name"]),
    ({"env__name": "gsm8"}, ["env.name"]),
    ({"rollout__page_size": 24, "sft__path": "gone.jsonl"}, ["rollout.page_size", "sft.path"])])
def test_the_hub_is_not_asked_where_the_settings_are_refused_already(files, tmp_path, monkeypatch, changes,
                                                                     fields):
    def asked(*_, **__):
        raise AssertionError("the hub is asked")
    for name in ("snapshot_download", "list_repo_files", "hf_hub_download"):
        monkeypatch.setattr(f"huggingface_hub.{name}", asked)
    local = recipe(files, tmp_path / "run", **changes)
    assert [problem.field for problem in entry.before_run(training(local, bridges))] == fields
    for hub in ({"model__path": "some/model"}, {"data__path": "some/data:main"},
                {"data__eval_path": "some/data"}):
        found = entry.before_run(training(recipe(files, tmp_path / "run", **changes | hub), bridges))
        assert [problem.field for problem in found] == fields[:1]


def test_what_may_surprise_of_the_prompts_is_told_and_not_refused(files, tmp_path):
    rows = len((files / "train.jsonl").read_text().splitlines())
    start = training(recipe(files, tmp_path / "run", rollout__prompts_per_step=rows + 1, eval__prompts=1000,
                            data__eval_path="{files}/train.jsonl"), bridges)
    text = dry_run(start)
    told = [f"prompts_per_step = {rows + 1} is more than the {rows} prompts of",
            f"eval.prompts = 1000 is more than the {rows} held-out prompts",
            f"all {rows} held-out prompts of .* are among those of .* that are trained on"]
    for words in told:
        assert re.search(f"Warning: .*{words}", text)
    with pytest.warns(UserWarning) as warned:
        assembly.prepare(start)
    assert len([warning for warning in warned if re.search("|".join(told), str(warning.message))]) == 3


def test_nothing_is_told_of_prompts_that_suffice(files, tmp_path):
    assert "Warning" not in dry_run(training(recipe(files, tmp_path / "run"), bridges))
