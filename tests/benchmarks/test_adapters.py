"""Adapters as others read them: right ones, wrong ones, ones that are refused, and what the table and the
exit code make of it."""
import dataclasses
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.adapters import cases, readers, text
from benchmarks.adapters.cases import ATTENTION, Case
from benchmarks.adapters.readers import Read, by_server
from benchmarks.adapters.words import in_one_line
from bridges.compare.score import logprobs
from bridges.servers.http import Refused, Unavailable
from bridges.servers.server import DrawnSample
from jaxrl_moe.model.config import LoraConfig
from tests.helpers import oracles

GOOD = Case("attention", "attention", LoraConfig(4, 8.0, targets=ATTENTION))
GATES = Case("no down_proj", "experts", LoraConfig(4, 8.0, targets=("gate_proj", "up_proj")))
ALONE = Case("gate_proj alone", "experts", LoraConfig(4, 8.0, targets=("gate_proj",)))


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    return cases.make((GOOD, GATES, ALONE), tmp_path_factory.mktemp("adapters"))


class Stub:
    """A server that draws by a model of ours, or refuses."""

    def __init__(self, model, refuses="", dies=False):
        self.model = model
        self.refuses = refuses
        self.dies = dies
        self.loaded = []

    def load(self, weights):
        if self.refuses:
            raise Refused(self.refuses)
        self.loaded.append(weights.label)

    def unload(self, label):
        self.loaded.remove(label)

    def draw(self, ids, params, *, weights, seed, stop_ids):
        if self.dies:
            raise Unavailable("the server at http://127.0.0.1:4711/v1 is gone")
        generator = np.random.default_rng(seed)
        drawn = generator.integers(0, self.model.config.vocab_size, params.max_tokens, np.int32)
        [scored] = logprobs(self.model, [np.concatenate([np.array(ids, np.int32), drawn])])
        return [DrawnSample(drawn, scored[-params.max_tokens:], "length", ())]


def test_an_adapter_moves_its_model_and_one_that_cannot_be_exported_says_why(adapters):
    good, gates, alone = adapters
    assert good.moves > 0.1 and gates.moves > 0.1 and good.folder.is_dir()
    assert alone.folder is None and alone.refusal.startswith("PEFT fuses the gate_proj and up_proj")


@pytest.mark.filterwarnings("ignore")
def test_peft_reads_a_good_adapter_and_one_that_it_leaves_out_is_told(adapters, tmp_path):
    oracles.peft()
    reads = readers.read("peft", adapters, tmp_path)
    assert reads[GOOD].error < 1e-5
    assert reads[GATES].error < 1e-5
    assert reads[ALONE] == Read(None, adapters[2].refusal)
    other = dataclasses.replace(adapters[1], folder=adapters[0].folder)  # with the model of another adapter
    assert readers.by_peft(other).error > 0.1
    shutil.copytree(adapters[1].folder, tmp_path / "gates")
    tensors = load_file(tmp_path / "gates" / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if ".down_proj." not in name}
    save_file(kept, tmp_path / "gates" / "adapter_model.safetensors", {"format": "pt"})
    left_out = readers.by_peft(dataclasses.replace(adapters[1], folder=tmp_path / "gates"))
    assert left_out.error is None and "left out" in left_out.words


def test_a_server_that_draws_what_ours_does_and_one_that_does_not(adapters):
    good, gates, _ = adapters
    right = Stub(good.model)
    wrong = Stub(gates.model)
    assert by_server(right, good, True).error < 1e-5 and right.loaded == []
    assert by_server(wrong, good, True).error > 0.1


def test_a_server_that_refuses_dies_or_may_not_be_asked_leaves_words(adapters):
    good = adapters[0]
    refusing = by_server(Stub(good.model, "no experts | here"), good, True)
    dying = by_server(Stub(good.model, dies=True), good, True)
    assert refusing == Read(None, "refused: no experts / here")
    assert dying.words == "loaded; refused to draw: the server at the server is gone"
    assert by_server(Stub(good.model), good, False).words.startswith("loaded; not drawn from")


def test_a_server_that_does_not_start_leaves_words_for_all_its_adapters(adapters, tmp_path, monkeypatch):
    monkeypatch.setitem(readers.real.PYTHON, "vllm", tmp_path / "no" / "python")
    assert "make .venv-vllm/.installed" in readers.absent("vllm")
    reads = readers.read("vllm", adapters, tmp_path)
    assert all(reads[case].words.startswith("the server does not start") for case in (GOOD, GATES))


def test_the_table_says_what_was_read_refused_and_not_run(adapters):
    results = {"peft": {GOOD: Read(2e-6), GATES: Read(None, "left out"), ALONE: Read(None, "why")}}
    told = text.page(adapters, results)
    assert "| attention | 4 |" in told and "| 2e-06 | not run | not run |" in told
    assert "Not run: vLLM (" in told and "commit" in told.splitlines()[2]
    assert "| gate_proj alone | 4 |  | not exported: PEFT fuses" in told
    assert list(text.problems(adapters, results)) == ["PEFT does not read 'no down_proj': left out"]
    assert "WRONG: PEFT does not read 'no down_proj': left out." in told


@pytest.mark.parametrize("error", [1e-2, float("nan"), float("inf")])
def test_an_adapter_that_is_read_as_something_else_is_wrong_whoever_reads_it(adapters, error):
    results = {"sglang": {GOOD: Read(1e-6), GATES: Read(error), ALONE: Read(None)}}
    [problem] = text.problems(adapters, results)
    assert "SGLang reads 'no down_proj' as something else" in problem


def test_a_server_need_not_read_what_it_cannot_on_a_cpu(adapters):
    results = {"vllm": {GOOD: Read(1e-6), GATES: Read(None, "loaded; not drawn from"), ALONE: Read(None)}}
    assert list(text.problems(adapters, results)) == []


def test_words_fit_into_a_cell():
    assert in_one_line("a\n  b | http://127.0.0.1:80/v1 /tmp/x/y/z.json") == "a b / the server .../z.json"
    assert len(in_one_line("word " * 100)) < 170
