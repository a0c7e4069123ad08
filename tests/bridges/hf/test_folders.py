"""Folders and files that are written whole or not at all, what killed processes leave beside them, and names
that lead elsewhere."""
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from bridges.errors import BridgeError
from bridges.hf.folders import (
    check_names,
    new_file,
    new_folder,
    plain_name,
    read_json,
    refuse_sources,
    resolve,
)

ROOT = pathlib.Path(__file__).parents[3]
WRITER = """
import sys
from bridges.hf.folders import new_file, new_folder
new = new_folder if sys.argv[1] == "folder" else new_file
with new(sys.argv[2], overwrite=True) as partial:
    (partial / "config.json" if partial.is_dir() else partial).write_text("half")
    print("at work", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer():
    """writer(kind, path) starts a process that stops in the middle of writing."""
    started = []

    def start(kind, path):
        process = subprocess.Popen([sys.executable, "-c", WRITER, kind, str(path)], cwd=ROOT, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == "at work\n"
        return process
    yield start
    for process in started:
        process.kill()
        process.communicate()


def write(folder, text):
    with new_folder(folder, overwrite=True) as partial:
        (partial / "config.json").write_text(text)


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_killed_process_left_is_removed_by_whoever_writes_there_next_and_a_living_ones_is_not(
        tmp_path, writer, kind):
    living = writer(kind, tmp_path / "living")
    dead = writer(kind, tmp_path / "dead")
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert len(names(tmp_path)) == 2
    write(tmp_path / "model", "new")
    assert {name.split(".partial-")[0] for name in names(tmp_path)} == {"model", ".living"}
    assert (tmp_path / "model" / "config.json").read_text() == "new"
    living.communicate("")
    assert living.returncode == 0 and names(tmp_path) == {"model", "living"}


def test_a_process_of_the_same_number_does_not_keep_what_was_left(tmp_path):
    """Containers number their processes alike: what a dead one left had the name that the next one took."""
    (tmp_path / ".model.partial-0123456789ab").mkdir()
    write(tmp_path / "model", "new")
    assert names(tmp_path) == {"model"}


@pytest.mark.parametrize("name", [f".model.partial-{os.getppid()}", ".model.partial-mine", ".model.partial-"])
def test_folders_of_the_living_and_of_others_are_left_alone(tmp_path, name):
    (tmp_path / name).mkdir()
    write(tmp_path / "model", "new")
    assert names(tmp_path) == {"model", name}


def test_a_folder_that_was_set_aside_by_a_killed_process_is_put_back(tmp_path):
    aside = tmp_path / ".model.partial-0123456789ab.old"
    aside.mkdir()
    (aside / "config.json").write_text("before")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "model", overwrite=True):
        raise RuntimeError("the next one fails too")
    assert names(tmp_path) == {"model"} and (tmp_path / "model" / "config.json").read_text() == "before"
    with pytest.raises(BridgeError, match="--overwrite"), new_folder(tmp_path / "model"):
        pass


def test_an_output_behind_a_link_is_written_where_it_lies(tmp_path):
    write(tmp_path / "v1", "old")
    (tmp_path / "current").symlink_to("v1")
    write(tmp_path / "current", "new")
    assert (tmp_path / "current").is_symlink() and (tmp_path / "v1" / "config.json").read_text() == "new"
    assert names(tmp_path) == {"v1", "current"}


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: os.mkfifo(path),
                                  lambda path: path.symlink_to("/dev/null")])
def test_only_regular_files_are_replaced_by_a_file(tmp_path, make):
    make(tmp_path / "out")
    with pytest.raises(BridgeError, match="no regular file"), new_file(tmp_path / "out", overwrite=True):
        pass
    assert names(tmp_path) == {"out"}


def test_a_file_is_replaced_only_where_that_was_asked_for(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(BridgeError, match="--overwrite"), new_file(tmp_path / "out"):
        pass
    with pytest.raises(RuntimeError), new_file(tmp_path / "out", overwrite=True) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert (tmp_path / "out").read_text() == "mine" and names(tmp_path) == {"out"}
    with new_file(tmp_path / "out", overwrite=True) as partial:
        partial.write_text("new")
    assert (tmp_path / "out").read_text() == "new" and names(tmp_path) == {"out"}


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 3000, "nul\0byte", "~nobody-of-that-name/model"])
def test_a_path_that_cannot_be_is_refused_in_one_line(name):
    for use in (resolve, lambda name: new_folder(name).__enter__(), lambda name: new_file(name).__enter__()):
        with pytest.raises(BridgeError) as caught:
            use(name)
        assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".",
                                  "", "a\\b", "a\0", "a" * 100_000, "\ud800", "a\nb", "\x1b[31m", "ä" * 200])
def test_a_file_that_names_files_elsewhere_is_refused(name):
    with pytest.raises(BridgeError, match="index.json names the file") as refused:
        plain_name(name, "index.json")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 300
    assert plain_name("model-00001-of-00002.safetensors", "") == "model-00001-of-00002.safetensors"


@pytest.mark.parametrize("reason, told", [
    ("404 Client Error. (Request ID: Root=1-2)\n\nRepository Not Found for url: https://x/y.\nPlease make",
     "Repository Not Found for url: https://x/y. Check"),
    ("Cannot find an appropriate cached snapshot folder. To enable look-ups, set HF_HUB_OFFLINE=0",
     "Cannot find an appropriate cached snapshot folder. Check"),
    ("no full stop", "no full stop. Check"), ("", "OSError. Check")])
def test_what_the_hub_says_is_told_in_one_sentence_before_our_own(monkeypatch, reason, told):
    import huggingface_hub

    def refuse(name, allow_patterns):
        raise OSError(reason)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(BridgeError) as refused:
        resolve("somebody/model")
    assert f"did not deliver it: {told} the name and the network" in str(refused.value)


@pytest.mark.parametrize("text, words", [("", "is empty"), ("[]", "holds a list"), ("{", "is no JSON"),
                                         ('{"a": 1, "a": 2}', "'a' stands twice"),
                                         ('{"a": Infinity}', "Infinity"),
                                         ("[" * 100000, "nested")])
def test_json_that_is_damaged_or_no_object_is_named(tmp_path, text, words):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BridgeError, match=f"config.json .*{words}"):
        read_json(tmp_path / "config.json")
    with pytest.raises(BridgeError, match="absent.json does not exist"):
        read_json(tmp_path / "absent.json")


@pytest.mark.parametrize("others, told", [
    (("notes.txt",), "notes.txt"), (("config.json", "notes.txt"), "notes.txt"),
    (("config.json", "checkpoints", "metrics.jsonl"), '"checkpoints"; "metrics.jsonl"'),
    (("tokenizer.json",), "tokenizer.json"), (("config.json", "train.json"), "train.json")])
def test_a_folder_that_is_no_model_is_not_replaced(tmp_path, others, told):
    (tmp_path / "out").mkdir()
    for name in others:
        (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(BridgeError, match="is not replaced") as refused:
        write(tmp_path / "out", "new")
    assert told in str(refused.value)
    assert names(tmp_path / "out") == set(others)


@pytest.mark.parametrize("there", [
    (), ("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "vocab.json",
         "merges.txt", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "README.md",
         "LICENSE", ".gitattributes"),
    ("adapter_config.json", "adapter_model.safetensors", "value_head.json", "value_head.safetensors"),
    ("config.json", "layout.json", "params")])
def test_a_model_an_adapter_or_a_critic_is_replaced(tmp_path, there):
    (tmp_path / "out").mkdir()
    for name in there:
        (tmp_path / "out" / name).write_text("old")
    write(tmp_path / "out", "new")
    assert names(tmp_path / "out") == {"config.json"}


def test_an_output_that_is_or_holds_its_source_is_refused(tmp_path):
    write(tmp_path / "runs" / "model", "base")
    (tmp_path / "link").symlink_to("runs")
    for output in ("runs/model", "link/model", "runs", "runs/x/../model"):
        with pytest.raises(BridgeError, match="would be gone"):
            refuse_sources(tmp_path / output, None, tmp_path / "runs/model", "Qwen/Qwen3-0.6B")
    refuse_sources(tmp_path / "runs/model-2", tmp_path / "runs/model")


@pytest.mark.parametrize("name", ["a" * 100_000, "many words " * 10_000, "a\0b", "a\nb", "\ud800", "\x1b[2J"])
def test_a_name_of_a_tensor_that_no_model_has_is_refused_in_one_short_line(name):
    check_names(["model.norm.weight"], "file")
    with pytest.raises(BridgeError, match="^file has a tensor called") as refused:
        check_names(["model.norm.weight", name], "file")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 300
