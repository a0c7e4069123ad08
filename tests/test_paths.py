"""Paths as people write them: one place expands them, and what is no path is refused with its reason."""
import dataclasses

import pytest

from bridges import __main__ as commands
from jaxrl_moe import config, options, paths
from jaxrl_moe.config import Config, ConfigError, known_fields, resolve, setting_of, value_of

SETTINGS = [key for key, field in known_fields().items() if setting_of(field).kind == "path"]


def with_setting(key, value):
    section, _, name = key.rpartition(".")
    return {section: {name: value}} if section else {name: value}


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_that_is_a_path_is_expanded_however_it_is_made(key, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    resolved = resolve(with_setting(key, "~/a b/x"))
    assert value_of(resolved, key) == f"{tmp_path}/a b/x"
    section, _, name = key.rpartition(".")
    by_hand = dataclasses.replace(Config(), **({
        section: dataclasses.replace(getattr(Config(), section), **{name: "~/a b/x"})} if section else
        {name: "~/a b/x"}))
    assert by_hand == resolved and hash(by_hand) == hash(resolved)
    assert value_of(resolve(with_setting(key, "./~/x")), key) == "./~/x"
    assert value_of(resolve(with_setting(key, "$HOME/x")), key) == "$HOME/x"


@pytest.mark.parametrize("path, reason", [
    ("~nobody_of_that_name/x", "begins with the home folder of 'nobody_of_that_name', and there is no such"),
    ("a\0b", "holds a NUL character"), ("x/" + 256 * "a", "has a name of more than 255 bytes"),
    ("x/" + 128 * "é", "has a name of more than 255 bytes"), (2048 * "a/", "has more than 4095 bytes"),
    ("\ud800", "holds characters that the file system's encoding does not have")])
def test_what_is_no_path_is_refused_wherever_it_is_given(path, reason):
    for key in SETTINGS:
        with pytest.raises(ConfigError, match=f"{key} = .*{reason}"):
            resolve(with_setting(key, path))
    with pytest.raises(ValueError, match=reason):
        options._PathParser().parse(path)
    with pytest.raises(commands.argparse.ArgumentTypeError, match=reason):
        commands._path(path)


@pytest.mark.parametrize("path", ["", "x", "/tmp/x/", "org/name", "a/../b", "ä/ü", 255 * "a", "a b", " x"])
def test_what_is_a_path_passes_as_it_is(path):
    assert paths.expanded(path) == path and not paths.unusable(path)


def test_without_a_home_folder_the_reason_says_so():
    assert "HOME is not set" in paths.unusable("~/x")


def test_a_command_of_bridges_reads_and_writes_where_the_home_folder_is(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert commands.main(["export", "~/model", "~/out"]) == 1
    assert f"{tmp_path}/model" in capsys.readouterr().err


def test_only_the_settings_that_name_files_are_paths():
    files = {"run_dir", "model.path", "data.path", "data.eval_path", "sft.path", "critic.path"}
    assert files <= set(SETTINGS)
    assert config.setting_of(known_fields()["env.name"]).kind == ""
