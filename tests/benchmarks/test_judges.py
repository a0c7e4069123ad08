"""The benchmark of judges: its rule, its servers over the contracts, and what it takes for a problem."""
import json
import urllib.request

import pytest

from benchmarks import judges
from jaxrl_moe.judges.records import Work, verdict_of


@pytest.mark.parametrize("text, score", [
    ("red old", 0.4 + 0.4 + 0.2), ("blue red", 0.4 / 2 + 0.4 / 2 + 0.2), ("red old red old", 0.4 + 0.4),
    ("", 0.0), ("grey grey grey grey", 0.0), ("tall", 0.2)])
def test_the_rule_sums_the_criteria_by_their_weights(text, score):
    with judges.served(judges.JUDGE) as url:
        body = {"trace": Work("Notice: red old", (text,)).plain(), "options": {}}
        answer = judges.call(f"{url}/api/judge/v1/score", body)
    assert verdict_of(answer, "it").reward == pytest.approx(score)


def test_each_instance_asks_for_other_words_and_none_held_out_is_in_the_conversations():
    tasks = [judges.asked(number) for number in range(judges.INSTANCES)]
    assert len(set(tasks)) == judges.INSTANCES
    seen = {row["messages"][0]["content"] for row in judges.rows(0)}
    assert seen <= set(tasks[:-judges.HELD_OUT]) and judges.rows(0) == judges.rows(0) != judges.rows(1)


def test_the_app_says_what_it_is():
    with judges.served(judges.APP) as url:
        for path, key in (("/health", "healthy"), ("/info", "service")):
            with urllib.request.urlopen(url + path) as answer:
                assert key in json.load(answer)


@pytest.mark.parametrize("scores, problems", [((0.4, 0.6, 0.7), 0), ((0.4, 0.5, 0.5), 1)])
def test_the_table_tells_the_lift_and_a_small_one_is_a_problem(tmp_path, scores, problems):
    for seed in (0, 1):
        folder = tmp_path / f"40_steps_{seed}"
        (folder / "model").mkdir(parents=True)
        rows = [{"step": 20 * number, "eval/reward_mean": score, "time/step_s": 30.0}
                for number, score in enumerate(scores)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text, found = judges.report(tmp_path, 40)
    line = f"| 1 | 0.400 | {scores[1]:.3f} | **{scores[2]:.3f}** | {scores[2] - 0.4:+.3f} | 1.5 |"
    assert line in text and len(found) == 2 * problems
