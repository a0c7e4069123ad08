"""The SFT phase: its loss, its order of data, its early end and its resumption."""
import dataclasses
import json
import os
import signal

import numpy as np
import pytest

import bridges
from jaxrl_moe import phases
from jaxrl_moe.config import resolve
from jaxrl_moe.data.sft import load_conversations
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.learning.samples import from_conversations
from jaxrl_moe.runs import monitor
from jaxrl_moe.runs.report import report
from jaxrl_moe.training import pipeline, sft
from tests.helpers import oracles, tiny_run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


def config(files, run_dir, **overrides):
    settings = {
        "sft__steps": 12,
        "sft__learning_rate": 3e-3,
        "sft__eval_every": 6,
        "eval__greedy": False,
        "train__pack": True
    }
    return resolve(tiny_run.settings(files, run_dir, **settings | overrides))


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    assert pipeline.run_sft(config(files, run_dir), bridges)
    return run_dir / "sft"


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def transformers_loss(path, conversations):
    """Mean negative log-likelihood of the trained tokens, by transformers."""
    torch = oracles.torch()
    model = oracles.transformers_model(path, dtype=torch.float32)
    total = count = 0
    for ids, mask in conversations:
        with torch.no_grad():
            logprobs = model(torch.tensor(ids[None]).long()).logits[0].log_softmax(-1)
        own = logprobs[np.arange(len(ids) - 1), ids[1:]].numpy() * mask[1:]
        total = total - own.sum()
        count = count + mask[1:].sum()
    return total / count


def test_the_first_loss_is_transformers_negative_log_likelihood(files, finished):
    settings = config(files, finished)
    conversations, _ = load_conversations(settings.sft, load_tokenizer(str(files / "model")))
    order = np.random.default_rng([0, 0]).permutation(len(conversations))[:4]
    expected = transformers_loss(files / "model", [conversations[i] for i in order])
    assert rows(finished / "metrics.jsonl")[1]["sft/loss"] == pytest.approx(expected, rel=1e-5)


def test_every_step_has_one_row_in_order_and_the_loss_falls(finished):
    logged = rows(finished / "metrics.jsonl")
    assert [row["step"] for row in logged] == list(range(13))
    assert logged[-1]["sft/loss"] < 0.8 * logged[1]["sft/loss"]
    assert [row["step"] for row in logged if "eval/pass_at_1" in row] == [0, 6, 12]


def test_an_epoch_holds_every_conversation_once(files, tmp_path):
    settings = config(files, tmp_path)
    conversations, _ = load_conversations(settings.sft, load_tokenizer(str(files / "model")))
    samples = from_conversations([(np.append(ids, number % 7), np.append(mask, 0))
                                  for number, (ids, mask) in enumerate(conversations)])
    weights = [
        sum(float(one.mask_BT.sum()) for one in sft.batch(samples, settings, row)) for row in range(0, 24, 4)
    ]
    assert sum(weights) == sum(sample.trained_tokens for sample in samples)
    two_epochs = dataclasses.replace(settings, sft=dataclasses.replace(settings.sft, steps=0, epochs=2))
    assert phases.total_steps(two_epochs, 25) == 13
    assert phases.total_steps(two_epochs, 24, steps=3, rows=18) == 3 + 8  # 30 rows are left, 4 a step
    assert phases.total_steps(two_epochs, 24, steps=9, rows=50) == 9


def test_sft_ends_early_once_the_accuracy_is_reached_and_stays_ended(files, tmp_path, monkeypatch):
    scores = iter([0.0, 0.2, 0.5])
    monkeypatch.setattr(pipeline, "evaluate", lambda *args: pipeline.Evaluation(
        {"eval/pass_at_1": (score := next(scores)), "eval/reward_mean": score}, {}))
    settings = config(files, tmp_path / "run", sft__eval_every=2, sft__stop_at_accuracy=0.4)
    assert pipeline.run_sft(settings, bridges)
    assert rows(tmp_path / "run" / "sft" / "metrics.jsonl")[-1]["step"] == 4
    assert pipeline.run_sft(settings, bridges)


@pytest.mark.parametrize("last", [7, 11])  # the last of all, too: RL may come next
def test_sft_stopped_by_sigterm_goes_on_to_the_same_numbers(files, finished, tmp_path, monkeypatch, last):
    whole = monitor.ProfilerWindow.before

    def before(window, step):
        if step == last:
            os.kill(os.getpid(), signal.SIGTERM)
        whole(window, step)

    monkeypatch.setattr(monitor.ProfilerWindow, "before", before)
    assert not pipeline.run_sft(config(files, tmp_path / "run"), bridges)
    assert not (tmp_path / "run" / "sft" / "model").exists()
    monkeypatch.setattr(monitor.ProfilerWindow, "before", whole)
    assert pipeline.run_sft(config(files, tmp_path / "run"), bridges)
    ours = rows(tmp_path / "run" / "sft" / "metrics.jsonl")
    theirs = rows(finished / "metrics.jsonl")
    assert [row.get("sft/loss") for row in ours] == [row.get("sft/loss") for row in theirs]
    assert (tmp_path
            / "run/sft/model/model.safetensors").read_bytes() == (finished
                                                                  / "model/model.safetensors").read_bytes()


def test_sigterm_during_an_evaluation_is_saved_too(files, tmp_path, monkeypatch):
    scores = iter([0.1, 0.2])

    def evaluate(*args):
        score = next(scores)
        if score == 0.2:
            os.kill(os.getpid(), signal.SIGTERM)
        return pipeline.Evaluation({"eval/pass_at_1": score, "eval/reward_mean": score}, {})

    monkeypatch.setattr(pipeline, "evaluate", evaluate)
    assert not pipeline.run_sft(config(files, tmp_path / "run", checkpoint__every=0, sft__eval_every=2),
                                bridges)
    assert (tmp_path / "run" / "sft" / "checkpoints" / "2").exists()


def test_the_report_of_fine_tuning_alone_shows_the_files_of_its_folder(finished, capsys):
    report(finished.parent)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Hugging Face checkpoint: {finished / 'model'}" in printed
    assert f"--model={finished / 'model'}" in printed
