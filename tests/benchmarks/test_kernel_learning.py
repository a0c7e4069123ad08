"""The benchmark of kernels: its table, and what it takes for a problem."""
import json

import pytest

from benchmarks import kernel_learning


@pytest.mark.parametrize("after, problems", [(0.9, 0), (0.35, 1)])
def test_the_table_tells_rates_and_rewards_by_turn_and_a_small_lift_is_a_problem(tmp_path, after, problems):
    for seed in (0, 1):
        run = kernel_learning.run_of(tmp_path, 40, seed)
        for folder in ("model", "sft"):
            (run / folder).mkdir(parents=True)
        told = {"eval/correct_by_turn_1": 0.1, "eval/correct_by_turn_2": 0.2, "eval/compiled": 0.8,
                "eval/reward_turn_1": 0.15, "eval/reward_turn_2": 0.25, "eval/reward_mean": 0.3}
        rows = [{"step": step, "eval/correct": rate, "time/step_s": 30.0} | told
                for step, rate in ((0, 0.0), (100, 0.3), (20, 0.5), (40, after))]
        for folder, part in (("sft", rows[:2]), ("", rows[2:])):
            (run / folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    kernel_learning.run_of(tmp_path, 40, 2).mkdir()  # which is not finished
    text, found = kernel_learning.report(tmp_path, 40)
    rest = "0.100 | 0.200 |  | 0.800 | 0.150 | 0.250 |  |"
    for policy, rate in (("from scratch", 0.0), ("after SFT", 0.3), ("after GRPO", after)):
        assert f"| 1 | {policy} | **{rate:.3f}** | {rest}" in text
    assert "40 steps of GRPO took 1.0, 1.0 minutes." in text
    assert len(found) == 2 * problems and ("PROBLEMS" in text) == bool(problems) and "| 2 |" not in text
