"""The soak's own logic: when it kills, what it sees of a process, and that each kind of damage is found and
told."""
import http.server
import json
import pathlib
import random
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.soak import checks, clients, drive, legs, text
from benchmarks.soak.legs import KILLED_ONES, UNKILLED, Moments
from benchmarks.soak.watch import LEAST, Sample, Watch, grown, growth, last_step, left_behind
from jaxrl_moe.config import ConfigError, resolve
from tests.helpers.settings import refuse_settings
from tests.helpers.waiting import wait_until

# A run of so many steps, which goes on from where its log ends.
STUB = """
import json, pathlib, sys, time
log = pathlib.Path(sys.argv[1]) / "metrics.jsonl"
log.parent.mkdir(parents=True, exist_ok=True)
done = len(log.read_text().splitlines()) if log.exists() else 0
for step in range(done + 1, int(sys.argv[2]) + 1):
    time.sleep(0.2)
    with log.open("a") as file:
        file.write(json.dumps({"step": step}) + "\\n")
"""
KILLED, SERVED, AHEAD = KILLED_ONES
STEPS = 2
ROWS = [{"step": 1, "rollout/staleness_max": 0}, {"step": 2, "rollout/staleness_max": 0}]
DRAWN = [{"step": 1, "phase": "train", "sequence": 0, "sample": 0}]


def stub(run_dir: pathlib.Path, steps: int = 12) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", STUB, str(run_dir), str(steps)])


def no_kills() -> Moments:
    return Moments(12, 0, 0.0, 0.0, random.Random(0))


def write(path: pathlib.Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(folder: pathlib.Path, served: bool = False) -> pathlib.Path:
    """The folder that a sound leg of STEPS steps leaves."""
    write(folder / "metrics.jsonl", ROWS)
    draws = [(sequence, sample) for sequence in range(STEPS * legs.PROMPTS) for sample in range(legs.GROUP)]
    write(folder / "trajectories.jsonl", [
        {"step": 1, "phase": "train", "sequence": sequence, "sample": sample} for sequence, sample in draws])
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors", "checkpoints/2/state/a"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"bits")
    if served:
        write(folder / "served.jsonl", [{"step": 1, "id": "a"}, {"step": 1, "id": "b"}])
    folder.with_suffix(".tmp").mkdir()
    return folder


def problems(tmp_path: pathlib.Path, leg: legs.Leg, damage: str = "", data: object = None) -> list[str]:
    """What is said of a leg whose file `damage` was given other rows or bytes."""
    unkilled = make_run(tmp_path / "unkilled")
    own = make_run(tmp_path / "own", leg.served)
    if damage and isinstance(data, list):
        write(own / damage, data)
    elif damage:
        (own / damage).parent.mkdir(parents=True, exist_ok=True)
        (own / damage).write_bytes(data)
    return list(checks.problems(leg, own, STEPS, unkilled))


@pytest.fixture
def same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison of checkpoints, which the stubs have none of, finds nothing."""
    from tests.helpers import runs
    monkeypatch.setattr(runs, "assert_same_run", lambda one, other: None)


@pytest.mark.usefixtures("same")
@pytest.mark.parametrize("leg", KILLED_ONES, ids=lambda leg: leg.name)
def test_nothing_is_said_of_a_sound_leg(tmp_path, leg):
    assert problems(tmp_path, leg) == []


@pytest.mark.usefixtures("same")
@pytest.mark.parametrize("leg, damage, data, said", [
    (KILLED, "metrics.jsonl", ROWS + ROWS[1:], "metrics.jsonl has 3 rows of 2 steps, not each of 2 once"),
    (KILLED, "metrics.jsonl", ROWS[:1], "metrics.jsonl has 1 rows"),
    (KILLED, "trajectories.jsonl", DRAWN * 2, "has 2 rows of 1 draws, not each of 128 once"),
    (KILLED, "metrics.jsonl", [{"step": 1, "rollout/staleness_max": 1}], "was 1 versions behind, and 0"),
    (AHEAD, "metrics.jsonl", [{"step": 1, "rollout/staleness_max": 2}], "was 2 versions behind, and 1"),
    (SERVED, "served.jsonl", [{"step": 1, "id": "a"}] * 2, "served.jsonl has 2 rows of 1 calls"),
    (SERVED, "served.jsonl", [], "served.jsonl has 0 rows"),
    (KILLED, "served.jsonl", [{"step": 1, "id": "a"}], "served.jsonl has 1 rows"),
    (KILLED, "metrics.jsonl.tmp", b"half", "a run has not which is never killed: metrics.jsonl.tmp"),
    (KILLED, "checkpoints/3.orbax-checkpoint-tmp/a", b"half", "checkpoints/3.orbax-checkpoint-tmp/a"),
    (KILLED, "model/model.safetensors", b"bitz", "model/model.safetensors differs"),
    (KILLED, "../own.tmp/leak", bytes(checks.TEMPORARY + 1), "bytes of temporary files are left"),
])
def test_each_kind_of_damage_is_told(tmp_path, leg, damage, data, said):
    assert any(said in problem for problem in problems(tmp_path, leg, damage, data))


@pytest.mark.usefixtures("same")
def test_more_checkpoints_than_are_kept_are_told(tmp_path):
    unkilled = make_run(tmp_path / "unkilled")
    own = make_run(tmp_path / "own")
    for step in range(10, 10 + legs.KEEP + 1):
        (own / "checkpoints" / str(step)).mkdir()
    [problem] = checks.problems(KILLED, own, STEPS, unkilled)
    assert problem == "4 checkpoints are left, where 2 and the best are kept"


def test_another_run_than_the_unkilled_one_is_told(tmp_path, monkeypatch):
    from tests.helpers import runs

    def differ(one: pathlib.Path, other: pathlib.Path) -> None:
        raise AssertionError("step 7 differs")
    monkeypatch.setattr(runs, "assert_same_run", differ)
    assert problems(tmp_path, KILLED) == ["it is not the run that was never killed: step 7 differs"]


def test_every_leg_is_a_configuration_that_is_accepted(tmp_path):
    for leg in (UNKILLED, *KILLED_ONES):
        config = resolve(legs.settings(str(tmp_path), str(tmp_path / "run"), 40, leg.changes))
        refuse_settings(config)
        assert config.checkpoint.every and config.eval.every and config.train.steps == 40
    assert config.rollout.max_staleness == AHEAD.max_staleness == 1
    assert [leg.repeats for leg in KILLED_ONES] == [True, False, False]


def test_a_leg_is_killed_as_often_as_planned_and_goes_on_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "launch", lambda script, recipe: stub(drive.run_dir(KILLED, tmp_path)))
    monkeypatch.setattr(drive, "LOOK_S", 0.01)
    seen = drive.run(KILLED, tmp_path, 12, Moments(12, 3, 0.05, 0.05, random.Random(0)))
    assert (seen.kills, len(seen.attempts), seen.problems) == (3, 4, [])
    assert last_step(drive.run_dir(KILLED, tmp_path) / "metrics.jsonl") == 12
    assert seen.attempts[-1][-1].memory > 2**20 and seen.attempts[-1][-1].threads == 1


def test_a_process_that_fails_and_one_that_hangs_are_told(tmp_path, monkeypatch):
    def failing(script: str, recipe: pathlib.Path) -> subprocess.Popen[bytes]:
        recipe.with_suffix(".log").write_text("the disk is full")
        return subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.exit(3)"])
    monkeypatch.setattr(drive, "launch", failing)
    [problem] = drive.run(KILLED, tmp_path, 12, no_kills()).problems
    assert "ended with 3" in problem and "the disk is full" in problem
    sleeping = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(drive, "launch", lambda script, recipe: subprocess.Popen(sleeping))
    monkeypatch.setattr(drive, "STUCK_S", 0.3)
    [problem] = drive.run(KILLED, tmp_path, 12, no_kills()).problems
    assert problem == "no step within 0.3 seconds, after step 0"


def test_a_folder_of_something_else_is_not_emptied(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    with pytest.raises(ConfigError, match="something else than a soak"):
        drive.fresh(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis").exists()
    (drive.fresh(tmp_path / "soak") / "start.py").touch()
    assert [path.name for path in drive.fresh(tmp_path / "soak").iterdir()] == [drive.MARK]


def test_kills_come_after_their_steps_or_in_a_start_and_end(monkeypatch):
    moments = Moments(20, 3, 1.0, 5.0, random.Random(1))
    monkeypatch.setattr(legs, "AT_A_START", 0.0)
    moments.started()
    assert not any(moments.is_due(0, seconds) for seconds in range(100))
    assert not moments.is_due(20, 0.0) and moments.is_due(20, 2.0)
    monkeypatch.setattr(legs, "AT_A_START", 1.0)
    moments.started()
    assert moments.is_due(0, 5.0)
    moments.started()
    assert moments.is_due(0, 5.0)
    moments.started()
    assert not moments.is_due(20, 1e9)  # that was the third


def samples(**rates: float) -> list[Sample]:
    """A process whose figures rise at these rates a second."""
    numbers = {"memory": 10**9, "threads": 20, "files": 30}

    def at(second: int) -> Sample:
        figures = {name: round(start + second * rates.get(name, 0.0)) for name, start in numbers.items()}
        return Sample(second, second, checkpoints=2, **figures)
    return [at(second) for second in range(100)]


@pytest.mark.parametrize("rates, said", [
    ({}, []), ({"memory": 10**5}, []), ({"threads": 0.02}, []),
    ({"memory": 3 * 10**6}, ["memory"]), ({"threads": 1.0, "files": 0.2}, ["threads", "files"])])
def test_growth_beyond_what_is_allowed_is_told(rates, said):
    assert [problem.split()[0] for problem in grown(growth(samples(**rates), 200))] == said


def test_of_a_short_life_and_of_the_export_at_the_end_nothing_is_said():
    assert growth(samples(memory=10**8)[:LEAST], 200) == {} == growth([], 200)
    assert growth(samples(memory=10**8), 200, served=True) == {}  # its clients are still new to it
    ending = samples()
    ending += [Sample(100.0 + second, 99, 10**10, 20, 30, 2) for second in range(300)]
    assert grown(growth(ending, 99)) == []


def test_a_watch_sees_a_process_and_what_lies_in_its_folder(tmp_path):
    process = stub(tmp_path / "run")
    watch = Watch(process.pid, tmp_path / "run")
    while process.poll() is None:
        watch.look()
        time.sleep(0.01)
    process.wait()
    assert watch.look() == 12 and watch.samples[-1].files >= 3 and watch.still < 60
    assert [sample.step for sample in watch.samples] == sorted(sample.step for sample in watch.samples)
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert last_step(tmp_path / "run" / "metrics.jsonl") == 2
    for name in ("checkpoints/4/a", "tensorboard/events.1", "tensorboard/events.2"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).touch()
    assert left_behind(tmp_path / "run") == {"metrics.jsonl", "tensorboard"}


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Answers as the server's attribute `mode` says: well, or with a status, or with a stream that tells of
    an error."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mode = self.server.mode
        self.send_response(mode if isinstance(mode, int) else 200)
        self.end_headers()
        choice = {"token_ids": [1, 2], "logprobs": {"token_logprobs": [-1.0] * (1 if mode == "short" else 2)}}
        events = [{"error": {"message": "no"}}] if mode == "error" else [{"choices": []}] * 4
        lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
        answer = "".join(lines) if body.get("stream") else json.dumps({"choices": [choice]})
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("mode, said", [("well", ""), (429, ""), (500, "status 500"), (400, "status 400"),
                                        ("short", "2 tokens with 1 log-probs"), ("error", "a stream said")])
def test_clients_count_what_they_get_and_tell_what_is_wrong(mode, said):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        server.mode = mode
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with clients.Clients(f"http://127.0.0.1:{server.server_port}", count=4) as asking:
            deadline = time.monotonic() + 20
            while sum(asking.seen.values()) < 40 and time.monotonic() < deadline:
                time.sleep(0.02)
        server.shutdown()
    assert sum(asking.seen.values()) >= 40
    assert bool(asking.problems) == bool(said) and all(said in problem for problem in asking.problems)
    kinds = {"refused"} if isinstance(mode, int) else {"answered", "streamed", "left"}
    assert kinds <= set(asking.seen) <= kinds | {"given up"}


def test_clients_wait_for_a_server_that_is_not_there():
    with clients.Clients(f"http://127.0.0.1:{drive.free_port()}", count=2) as asking:
        wait_until(lambda: asking.seen)
    assert set(asking.seen) == {"met no server"} and not asking.problems


def test_the_newest_soak_stands_first_and_tells_what_is_wrong(tmp_path):
    seen = [drive.Seen(UNKILLED, [samples()], seconds=60.0),
            drive.Seen(KILLED, [samples()], 2, 70.0),
            drive.Seen(SERVED, [[]], 1, 80.0, {"answered": 3}, ["a | b"])]
    good = text.section(seen[:2], 40, 2.0, "Once.")
    assert ": 2 minutes, 2 kills, all well" in good and "the same bits" in good and "954 to 954" in good
    text.write(tmp_path / "soak.md", good)
    text.write(tmp_path / "soak.md", text.section(seen, 40, 6.0, "Twice."))
    told = (tmp_path / "soak.md").read_text()
    assert told.startswith("# soak\n") and told.count("# soak\n") == 1 and told.count("\n## ") == 2
    assert told.index("Twice.") < told.index("Once.") and "3 kills, 1 PROBLEMS" in told
    assert "| too short | too short | too short | at most 0 | 3 answered | **a / b** |" in told
