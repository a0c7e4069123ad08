"""The table of the games: what it says of finished runs, and what it takes for a problem."""
import contextlib
import json

from benchmarks import games
from jaxrl_moe.envs import make_task


def write_run(folder, name, success, tokens=(1, 2), seconds=3.0):
    """A finished run with this success before SFT, after it, and after GRPO."""
    before, warm, after = success
    def evaluated(step, value):
        return {"step": step, "eval/pass_at_1": value, "eval/reward_mean": value}

    rows = {"sft/metrics.jsonl": [evaluated(0, before) | {"time/step_s": 30.0},
                                  evaluated(9, warm) | {"time/step_s": seconds}],
            "metrics.jsonl": [{"step": 1, "time/step_s": seconds}, evaluated(2, after)],
            "sft/trajectories.jsonl": [], "trajectories.jsonl": [{"completion_ids": list(tokens)}]}
    for path, lines in rows.items():
        file = folder / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / name / "model").mkdir()


def test_the_table_tells_the_lift_of_grpo_and_whether_a_server_gives_the_same_numbers(tmp_path):
    write_run(tmp_path, "textcraft_0_process", (0.0, 0.4, 0.7))
    write_run(tmp_path, "textcraft_0_server", (0.0, 0.4, 0.7), seconds=9.0)  # times may differ
    text, problems = games.report(tmp_path, "textcraft")
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| textcraft")]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert cells[0] == ["textcraft", "0", "process", "0.000", "0.400", "**0.700**", "+0.300", "-", "0.6"]
    assert cells[1][7] == "the same" and not problems


def test_a_small_lift_and_other_tokens_are_problems(tmp_path):
    write_run(tmp_path, "babyai_1_process", (0.0, 0.4, 0.5))
    write_run(tmp_path, "babyai_1_server", (0.0, 0.4, 0.7), tokens=(1, 3))
    text, problems = games.report(tmp_path, "babyai")
    assert len(problems) == 3 and "lifts success by +0.100" in problems[0]
    told = {problem.rpartition(" in ")[2] for problem in problems[1:]}
    assert told == {"trajectories.jsonl", "metrics.jsonl"}
    assert "3 PROBLEMS" in text


def test_a_run_of_several_games_has_a_line_for_each_and_each_must_be_learnt(tmp_path):
    write_run(tmp_path, "mixed_0_process", (0.0, 0.3, 0.7))
    for path, lifts in (("sft/metrics.jsonl", (0.0, 0.5)), ("metrics.jsonl", (None, 0.55))):
        rows = [json.loads(line) for line in (tmp_path / "mixed_0_process" / path).read_text().splitlines()]
        for row, score in zip(rows, lifts):
            row["eval/textcraft/pass_at_1"] = row.get("eval/pass_at_1")
            row["eval/babyai/pass_at_1"] = score
        (tmp_path / "mixed_0_process" / path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    text, problems = games.report(tmp_path, "mixed")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()
             if line.startswith("| mixed")]
    assert [line[0] for line in cells] == ["mixed, textcraft", "mixed, babyai"]
    assert [line[3:7] for line in cells] == [["0.000", "0.300", "**0.700**", "+0.400"],
                                             ["0.000", "0.500", "**0.550**", "+0.050"]]
    assert problems == ["mixed, babyai, seed 0, process: GRPO lifts success by +0.050, under 0.1"]


def test_games_over_servers_are_the_recipe_s_own_with_its_turns(tmp_path, monkeypatch):
    served = []

    @contextlib.contextmanager
    def started(arguments, pattern, folder):
        served.append(arguments[1])
        yield f"http://127.0.0.1:{len(served)}", None

    monkeypatch.setattr(games, "started", started)
    with contextlib.ExitStack() as stack:
        spec = games.over_servers("agents/mixed_grpo", stack, tmp_path)
    task = make_task(spec)
    assert task.envs == ("textcraft", "babyai") and task.deterministic
    assert [task.turns_of({"env": env}) for env in task.envs] == [8, 3]
    assert served == ["--name=textcraft(recipes='small', max_depth=1, max_turns=8)",
                      "--name=babyai(max_turns=3)"]
    with contextlib.ExitStack() as stack:
        assert make_task(games.over_servers("agents/babyai_grpo", stack, tmp_path)).max_turns == 3


def test_a_section_takes_the_place_of_the_one_of_its_game_and_is_the_repository_s_only_when_it_is_whole(
        tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "benchmarks").mkdir(parents=True)
    monkeypatch.setattr(games.table, "ROOT", root)
    committed = root / "benchmarks" / "games.md"
    committed.write_text("# old words\n\n## textcraft\n\nthat of before\n\n## mixed\n\nof both\n")
    write_run(tmp_path, "textcraft_0_process", (0.0, 0.4, 0.7))
    assert not games.write(tmp_path, "textcraft")
    assert "+0.300" in (tmp_path / "games.md").read_text() and "that of before" in committed.read_text()
    for name in ("0_server", "1_process", "1_server"):
        write_run(tmp_path, f"textcraft_{name}", (0.0, 0.4, 0.7))
    assert not games.write(tmp_path, "textcraft")
    text = committed.read_text()
    assert text.startswith(games.INTRO) and "that of before" not in text and text.count("+0.300") == 4
    assert text.index("## textcraft") < text.index("## mixed") and text.endswith("## mixed\n\nof both\n")
    picture = root / "benchmarks" / "games" / "textcraft.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
