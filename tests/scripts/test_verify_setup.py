"""The checks before a run: one line each, and a failing one is named."""
import dataclasses

import pytest
from training.tiny_run import make_files, settings

import bridges
from jaxrl_moe.config import resolve
from jaxrl_moe.distributed import selftest
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.training.setup_checks import check_all


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("files"))


def outcomes(config):
    return {outcome.name: outcome for outcome in check_all(config, bridges)}


def test_a_sound_setup_passes_every_check_and_leaves_nothing(files, tmp_path):
    found = outcomes(resolve(settings(files, tmp_path / "run", mesh__tensor=2, mesh__expert=2)))
    assert all(outcome.passed for outcome in found.values()), found
    assert "expert 2 x tensor 2" in found["mesh"].text and "10 run and right" in found["collectives"].text
    assert "24 prompts" in found["data"].text and not list(tmp_path.iterdir())


def test_both_meshes_are_checked_where_rollout_has_its_own(files, tmp_path):
    found = outcomes(resolve(settings(files, tmp_path / "run", mesh__expert=2, rollout_mesh__data=2, rollout_mesh__tensor=2)))
    assert all(outcome.passed for outcome in found.values()), found
    assert "training on expert 2, rollout on data 2 x tensor 2 beside it" in found["mesh"].text
    assert "15 run and right" in found["collectives"].text


@pytest.mark.parametrize("changes, failing, message", [
    ({"mesh__data": 4, "rollout_mesh__data": 5}, ["mesh", "collectives"], "5 needs 9"),
    ({"data__path": "nowhere.jsonl"}, ["data"], "nowhere.jsonl"), ({"mesh__tensor": 4}, ["mesh"], "num_key_value_heads = 2"),
    ({"algorithm__loss": "grop"}, ["settings"], "'grop'"), ({"folder": "/proc/nowhere/run"}, ["run_dir"], "/proc")], ids=str)
def test_what_is_wrong_is_named_and_the_other_checks_run(files, tmp_path, changes, failing, message):
    changes = dict(changes)
    found = outcomes(resolve(settings(files, changes.pop("folder", tmp_path / "run"), **changes)))
    assert [name for name, outcome in found.items() if not outcome.passed] == failing
    assert message in found[failing[0]].text


def test_a_missing_shard_is_found_from_headers_alone(files, tmp_path):
    (tmp_path / "model").mkdir()
    for path in (files / "model").iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    config = resolve(settings(files, tmp_path / "run"))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, path=str(tmp_path / "model")))
    assert "is missing" in outcomes(config)["model"].text


def test_a_collective_that_sums_wrongly_is_found(monkeypatch):
    place = make_placement({"data": 2})
    assert all(gap == 0 for _, _, gap in selftest.check_collectives(place))
    monkeypatch.setattr(selftest.collectives, "total", lambda x, *axes: x)
    assert {name for _, name, gap in selftest.check_collectives(place) if gap > 0} == {"psum"}
