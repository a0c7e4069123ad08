"""Candidates that would be right without the work: their source gives them away, or what they do, or both;
and each check is what finds them."""
import os
import pathlib
import shutil
import tempfile

import pytest

from jaxrl_moe.envs.kernels.verdicts import checks, warmed
from jaxrl_moe.envs.kernels.verdicts import evaluator as evaluating
from jaxrl_moe.envs.kernels.verdicts.static import refusals
from jaxrl_moe.envs.kernels.verdicts.trial import Judged, Trial
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault
from tests.helpers.kernel_cheats import BOMBS, CHEATS, HONEST, RELU2, candidate
from tests.helpers.kernel_judges import NEEDED, evaluator

PAGE = pathlib.Path(__file__).parents[4] / "docs" / "kernels.md"
PROBLEM = Judged(RELU2, ({}, {"ROWS": 7}))


@pytest.fixture(scope="module")
def judge():
    with evaluator(seconds=10.0) as made:
        yield made


@pytest.fixture
def any_source(monkeypatch):
    """What a source says is not looked at."""
    monkeypatch.setattr(evaluating, "refusals", lambda source: [])


def without(fault, monkeypatch):
    """A call is not asked this any more; the others in their order."""
    monkeypatch.setattr(checks, "CHECKS", {each: check for each, check in checks.CHECKS.items()
                                               if each != fault})


@NEEDED
def test_the_honest_one_is_right_in_every_trial(judge):
    verdict = judge.verdict(PROBLEM, HONEST, 1)
    assert (verdict.correct, verdict.fault, verdict.trials) == (True, None, 5), verdict


@pytest.mark.parametrize("name", [*CHEATS, *BOMBS])
def test_a_source_that_gives_itself_away_is_refused_unseen(name):
    source, _, given_away = (CHEATS | BOMBS)[name]
    assert bool(refusals(source)) == given_away, refusals(source)


def test_the_page_s_table_is_what_is_tested():
    rows = [f"| {name} | {'refused' if given_away else 'passes'} | {', '.join(faults.split())} |"
            for name, (_, faults, given_away) in (CHEATS | BOMBS).items()]
    assert [line for line in PAGE.read_text().splitlines() if line.endswith(" |") and line in rows] == rows
    assert len(rows) == len(CHEATS) + len(BOMBS) == 52


@NEEDED
@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_found_by_what_it_does_where_nobody_looked_at_its_source(name, judge, any_source):
    source, faults, _ = CHEATS[name]
    verdict = judge.verdict(PROBLEM, source, 1)
    assert not verdict.correct and verdict.fault in faults.split(), verdict


@NEEDED
@pytest.mark.parametrize("name, found_by", [
    ("input mutation", [Fault.MUTATED]), ("output that aliases an input", [Fault.MUTATED, Fault.ALIASED]),
    ("weights kept in a module's list", [Fault.KEPT]), ("weights kept in a default", [Fault.KEPT])])
def test_without_its_check_the_cheat_would_pass(name, found_by, judge, any_source, monkeypatch):
    for fault in found_by:
        assert judge.verdict(PROBLEM, CHEATS[name][0], 1).fault == fault
        without(fault, monkeypatch)
    assert judge.verdict(PROBLEM, CHEATS[name][0], 1).correct


@NEEDED
@pytest.mark.parametrize("name", ["outputs kept by address", "outputs kept by number of call", "warm-up "
                                  "detection"])
def test_who_keeps_outputs_unseen_is_wrong_on_fresh_inputs_that_lie_where_the_last_ones_lay(
        name, judge, any_source, monkeypatch):
    without(Fault.KEPT, monkeypatch)
    verdict = judge.verdict(PROBLEM, CHEATS[name][0], 1)
    assert (verdict.fault, verdict.trials > 0) == (Fault.MISMATCH, True)


@NEEDED
def test_where_torch_may_compute_too_the_kernels_must_still_do_their_part(judge):
    allowed = Judged(RELU2, ({},), torch_operators=True)
    assert judge.verdict(allowed, CHEATS["a decoy beside torch"][0], 1).fault == Fault.DECOY
    both = candidate("return right(x, self.weight) * torch.ones_like(x)")
    assert judge.verdict(allowed, both, 1).correct
    assert judge.verdict(PROBLEM, both, 1).fault == Fault.DECOY


@NEEDED
def test_a_clone_where_a_clone_is_asked_is_no_kernel(judge):
    clones = Judged(RELU2.replace("torch.relu(x) * self.weight", "x.clone()"), ({},))
    scratch = "scaled_relu[(1,)](x, self.weight, torch.empty_like(x), 1, BLOCK=32)"
    assert judge.verdict(clones, candidate(f"{scratch}\nreturn x.clone()"), 1).fault == Fault.DECOY
    assert judge.verdict(clones, candidate(f"{scratch}\nreturn x"), 1).fault == Fault.ALIASED


@NEEDED
def test_memory_that_was_not_written_shows_even_where_it_held_the_right_numbers(judge, any_source):
    lucky = candidate("""
out = right(x, self.weight)
del out
out = torch.empty_like(x)
scaled_relu[(1,)](x, self.weight, out, x.shape[1], BLOCK=32)
return out""")
    assert judge.verdict(PROBLEM, lucky, 1).fault == Fault.MISMATCH


@NEEDED
@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_told_of_and_the_next_is_judged_as_ever(name, any_source):
    with evaluator(seconds=15.0) as judge:  # memory takes some to be taken
        source, faults, _ = BOMBS[name]
        assert judge.verdict(PROBLEM, source, 1).fault in faults.split()
        assert judge.verdict(PROBLEM, HONEST, 1).correct


@NEEDED
def test_weights_and_inputs_follow_from_the_seed_and_inputs_from_both_sources_too():
    one, other = (Trial(PROBLEM, source, 1) for source in (HONEST, HONEST + "\n"))
    assert one.seeds(0) == Trial(PROBLEM, HONEST, 1).seeds(0)
    assert len({one.seeds(0), one.seeds(1), other.seeds(0), Trial(PROBLEM, HONEST,
                                                                              2).seeds(0)}) == 4


@NEEDED
def test_what_a_candidate_leaves_in_memory_is_gone_for_the_next(judge, any_source):
    leaves = candidate("""
import pathlib
for folder in ("/tmp", "/tmp/work", "/dev/shm"):
    (pathlib.Path(folder) / "left").mkdir(exist_ok=True)
    (pathlib.Path(folder) / "left" / "deep").write_text("secret")
return right(x, self.weight)""")
    finds = candidate("""
import pathlib
found = [folder for folder in ("/tmp", "/tmp/work", "/dev/shm") if (pathlib.Path(folder) / "left").exists()]
raise RuntimeError(str(found))""")
    assert judge.verdict(PROBLEM, leaves, 1).correct
    assert judge.verdict(PROBLEM, finds, 1).message.endswith("RuntimeError: []\n")


@NEEDED
def test_programs_that_lie_below_a_folder_that_the_sandbox_has_of_its_own_run_again_and_again(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(warmed.INSIDE, f"{folder}/inside")
        monkeypatch.setattr(warmed, "INSIDE", pathlib.Path(folder) / "inside")
        with evaluator() as made:
            assert all(made.verdict(PROBLEM, HONEST, seed).correct for seed in (1, 2))
