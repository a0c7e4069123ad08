"""The accounts of episodes that failed: their shares, what is told of them, and when a run stops."""
import pytest

from jaxrl_moe.config import EpisodesSection
from jaxrl_moe.rollout.failures import EpisodesError, Failures, failure_metrics, failures_told
from jaxrl_moe.types import Status


def test_failures_are_shares_of_the_tries():
    tries = {(Status.FINISHED, ""): 6, (Status.TIMED_OUT, "a"): 2, (Status.TIMED_OUT, "b"): 1,
             (Status.CRASHED, "c"): 2}
    metrics = failure_metrics(tries)
    assert metrics["episodes/failed_frac"] == pytest.approx(5 / 11)
    assert metrics["episodes/timed_out_frac"] == pytest.approx(3 / 11) and failure_metrics({}) == {}
    assert failures_told(tries) == (
        "5 of 11 tries failed (timed_out: 3, crashed: 2). The commonest message of timed_out, "
        "2 of 3: a.")
    assert failures_told({(Status.FINISHED, ""): 6}) == failures_told({}) == ""


def test_to_lose_all_episodes_that_are_open_stops_no_run_but_to_lose_them_again_does():
    failures = Failures(EpisodesSection(max_error_rate=0.25, error_window=8), 40)
    for again in range(3):
        for _ in range(40):
            failures.note(Status.UNREACHABLE, f"gone {again}")
        for _ in range(120):
            failures.note(Status.FINISHED)
    for _ in range(40):
        failures.note(Status.UNREACHABLE, "no way")
    with pytest.raises(EpisodesError, match="last 160 tries .* 0.25 .* 41 of 160 .*41 of 41: no way."):
        failures.note(Status.UNREACHABLE, "no way")


def test_the_loss_of_all_open_episodes_is_within_the_rate_however_it_is_rounded():
    failures = Failures(EpisodesSection(max_error_rate=0.009, error_window=8), 27)
    for _ in range(27):
        failures.note(Status.UNREACHABLE, "gone")
    with pytest.raises(EpisodesError, match="28 of 28"):
        failures.note(Status.UNREACHABLE, "gone")


def test_where_no_failure_is_allowed_the_first_one_stops_the_run_once_there_are_enough_tries():
    failures = Failures(EpisodesSection(max_error_rate=0.0, error_window=2), 40)
    failures.note(Status.TRUNCATED)
    with pytest.raises(EpisodesError, match="1 of 2 tries"):
        failures.note(Status.MALFORMED, "what")
