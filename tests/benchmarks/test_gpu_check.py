"""The GPU check: whatever becomes of a stage, the others' results stand, and table and exit status say what
happened."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.gpu import check, record, report
from benchmarks.gpu.stages import STAGES, Stage

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOOD = tuple(Stage(letter, f"stub {letter}", "tests.benchmarks.gpu_stage", 1.0) for letter in "abc")
BAD = (Stage("a", "stub a", "tests.benchmarks.gpu_bad_stage", 1.0), *GOOD[1:])


@pytest.fixture(autouse=True)
def terminated():
    """main takes SIGTERM over, as a process of its own may."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(folder, *options, stages=GOOD):
    """(exit status, table, {letter: rows})."""
    status = check.main([str(folder), "--rehearse", f"--work={folder / 'work'}", *options], stages)
    return status, (folder / "gpu.md").read_text(), {
        stage.letter: record.read(report.rows_file(folder, stage)) for stage in stages
    }


def results(table):
    """{letter: result} of the table's first part."""
    return dict(re.findall(r"^\| (\w), [^|]* \| ([^|]*) \|", table, re.MULTILINE))


def test_good_stages_give_a_table_and_exit_status_0(tmp_path):
    status, table, rows = run(tmp_path)
    assert status == 0 and results(table) == dict.fromkeys("abc", "passed")
    assert [len(found) for found in rows.values()] == [2, 2, 2]
    assert "no NVIDIA driver" in table
    assert "jax " in table
    assert "tokens/s 12,346" in table
    assert "A rehearsal of" in table


@pytest.mark.parametrize("how, said", [("raise", "ended with an error: RuntimeError: this failure is "
                                                 "simulated"),
                                       ("hang", "cut after its "), ("kill", "ended by SIGKILL")])
@pytest.mark.parametrize("letter", ["a", "c"])
def test_a_stage_that_fails_takes_nothing_else_with_it(tmp_path, monkeypatch, how, said, letter):
    monkeypatch.setenv(record.SIMULATED, f"{letter}:{how}")
    status, table, rows = run(tmp_path, "--seconds=25")
    assert status == 1 and results(table) == dict.fromkeys("abc", "passed") | {letter: "CUT"}
    assert [len(rows[other]) for other in "abc"] == [1 if other == letter else 2 for other in "abc"]
    assert f"Not complete: {said}" in table


def test_a_failed_row_and_one_that_the_machine_cannot_have(tmp_path):
    status, table, rows = run(tmp_path, stages=BAD)
    assert status == 1 and results(table) == {"a": "FAILED", "b": "passed", "c": "passed"}
    assert [row["status"] for row in rows["a"]] == [record.PASSED, record.FAILED, record.ABSENT]
    assert "| second | failed |  | ZeroDivisionError: division by zero |" in table
    assert "| third / fourth | not on this machine |" in table  # a bar would end the cell


def test_what_a_machine_cannot_have_fails_nothing():
    outcome = check.box.Outcome(GOOD[0], 1.0, "")
    absent = {"status": record.ABSENT}
    assert report.result(outcome, [absent]) == report.GOOD
    assert report.result(outcome, []) == "FAILED"  # a stage that found nothing has checked nothing


def test_a_stage_whose_module_is_broken_is_cut_with_the_reason(tmp_path):
    status, table, _ = run(tmp_path, stages=(Stage("a", "stub a", "tests.scripts.no_such_stage",
                                                   1.0), *GOOD[1:]))
    assert status == 1 and results(table) == {"a": "CUT", "b": "passed", "c": "passed"}
    assert "No module named 'tests.scripts.no_such_stage'" in table


def test_stages_can_be_chosen_in_any_order(tmp_path):
    status, table, rows = run(tmp_path, "--stages=c,a")
    assert status == 0 and list(results(table)) == ["c", "a"] and rows["b"] == []


@pytest.mark.parametrize("option", ["--stages=a,x", "--stages=a,a", "--seconds=1", "--card=a100"])
def test_a_mistaken_command_is_refused(tmp_path, option):
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, option)
    assert stopped.value.code == 2


def test_what_a_killed_process_left_half_written_is_dropped(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"name": "whole"}) + '\n{"name": "ha')
    assert record.read(path) == [{"name": "whole"}]


def test_a_check_that_is_terminated_ends_its_stage_and_leaves_the_table(tmp_path):
    program = "import sys; from benchmarks.gpu import check; " \
              "from tests.benchmarks.test_gpu_check import GOOD; " \
              f"sys.exit(check.main([{str(tmp_path)!r}, '--rehearse'], GOOD))"
    variables = os.environ | {"PYTHONPATH": f"{ROOT}", record.SIMULATED: "b:hang"}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=variables,
                               stdout=subprocess.DEVNULL)
    waiting = time.monotonic() + 60
    while not record.read(tmp_path / "gpu_b.jsonl") and time.monotonic() < waiting:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == 143
    assert results((tmp_path / "gpu.md").read_text()) == {"a": "passed", "b": "NOT RUN", "c": "NOT RUN"}


def test_every_stage_can_be_imported_and_run():
    import importlib
    assert [stage.letter for stage in STAGES] == list("abcdef")
    assert all(callable(importlib.import_module(stage.module).run) for stage in STAGES)


def fake_pip(tmp_path, report):
    """A `python -m pip` that resolves to the report and downloads files of ten bytes; any other use of Python
    is the real one."""
    path = tmp_path / "python"
    path.write_text(f"""#!{sys.executable}
import os, pathlib, sys
arguments = sys.argv[1:]
if arguments[:3] == ["-m", "pip", "install"]:
    pathlib.Path(arguments[arguments.index("--report") + 1]).write_text({json.dumps(report)!r})
elif arguments[:3] == ["-m", "pip", "download"]:
    for pin in (argument for argument in arguments if "==" in argument):
        pathlib.Path(arguments[arguments.index("--dest") + 1], pin + ".whl").write_bytes(bytes(10))
else:
    os.execv({sys.executable!r}, [{sys.executable!r}, *arguments])
""")
    path.chmod(0o755)
    return path


def wheels(tmp_path, limit):
    named = {
        "ml_collections": ["absl-py"],
        "grain": ["array-record; sys_platform != 'win32'", "protobuf"],
        "tensorboardX": [],
        "flax": [],
        "optax": [],
        "orbax-checkpoint": [],
        "tokamax": ["einshape", "xprof", "extra-thing; extra == 'dev'"],
        "array_record": [],
        "einshape": [],
        "xprof": ["duckdb", "fire"],
        "duckdb": [],
        "fire": [],
        "absl-py": [],
        "protobuf": [],
        "extra-thing": []
    }
    report = {
        "install": [{
            "metadata": {
                "name": name,
                "version": "1.0",
                "requires_dist": needs
            }
        } for name, needs in named.items()]
    }
    variables = os.environ | {"PYTHON": str(fake_pip(tmp_path, report)), "LIMIT": str(limit)}
    return subprocess.run(["bash", "scripts/gpu_wheels.sh",
                           str(tmp_path / "wheels")], cwd=ROOT, capture_output=True, text=True, env=variables)


def test_wheels_are_what_the_machine_has_not(tmp_path):
    done = wheels(tmp_path, 110)
    assert done.returncode == 0, done.stderr
    names = {path.name.partition("==")[0] for path in (tmp_path / "wheels").iterdir()}
    assert names == {
        "ml-collections", "grain", "tensorboardx", "flax", "optax", "orbax-checkpoint", "tokamax",
        "array-record", "einshape", "xprof", "fire"
    }


def test_too_many_bytes_of_wheels_are_an_error(tmp_path):
    done = wheels(tmp_path, 109)
    assert done.returncode == 1 and "110 bytes of wheels are more than LIMIT=109" in done.stderr


def test_a_folder_without_wheels_is_refused(tmp_path):
    variables = os.environ | {"WHEELS": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(["bash", "scripts/gpu_check.sh", str(tmp_path)], cwd=ROOT, capture_output=True,
                          text=True, env=variables)
    assert done.returncode == 2 and "gpu_wheels.sh" in done.stderr


def test_an_error_is_told_with_what_it_came_from():
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ImportError("outer\nline") from error
    except ImportError as error:
        assert record.message(error) == "ImportError: outer line, from KeyError: 'inner'"


@pytest.mark.slow
def test_the_whole_check_can_be_rehearsed_on_a_cpu(tmp_path):
    done = subprocess.run(
        ["bash", "scripts/gpu_check.sh",
         str(tmp_path), "--rehearse", f"--work={tmp_path / 'work'}"], cwd=ROOT,
        env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True)
    table = (tmp_path / "gpu.md").read_text()
    assert done.returncode == 0, done.stdout + table
    assert results(table) == dict.fromkeys("abcdef", "passed")
    assert "cuDNN is not detected" in table
