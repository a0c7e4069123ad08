"""Episodes of several turns played by several processes, of which the first alone has the environments."""
import pytest

from tests.helpers.processes import compare, finished, rows, train
from tests.helpers.tiny_run import make_files

WALK = "tests.helpers.walks:Walk(max_turns=4, fails=7)"
TURNS = {"env__name": WALK, "episodes__max_tokens": 80, "episodes__retries": 9, "data__max_prompt_tokens": 40,
         "rollout__max_tokens": 6}
MIXED = TURNS | {"env__name": f"mixed(sums='gsm8k', walk='{WALK}', normalise=false)", "data__path": "",
                 "data__weights": "1,2", "data__files": "sums={files}/train.jsonl,walk={files}/eval.jsonl"}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [TURNS, MIXED], ids=["one", "mixed"])
def test_two_processes_play_and_learn_what_one_does_over_environments_that_fail(tmp_path, settings):
    files = make_files(tmp_path)
    settings = {name: value.replace("{files}", str(files)) if isinstance(value, str) else value
                for name, value in settings.items()}
    runs = [train(files, tmp_path / name, count, **settings) for name, count in (("one", 1), ("two", 2))]
    said = [finished(processes)[0][1] for processes in runs]
    one, two = tmp_path / "one", tmp_path / "two"
    compare(two, one)
    played = [[(row["turns"], row["messages"], row["reward"], row["info"], row["outcome"])
               for row in rows(folder, "trajectories")] for folder in (one, two)]
    assert played[0] == played[1] and max(len(turns) for turns, *_ in played[0]) > 1
    for ours, theirs in zip(rows(one, "metrics"), rows(two, "metrics"), strict=True):
        assert ours.keys() == theirs.keys()
        names = [name for name in ours if name.startswith(("episodes/", "env/", "rollout/turns"))]
        assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}
        assert ours["episodes/reset_failed_frac"] > 0
    assert all("the line is broken" in text for text in said)
