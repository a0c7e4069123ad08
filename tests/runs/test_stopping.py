"""When a run ends before its last step."""
import os
import signal

import pytest

from jaxrl_moe import begin
from jaxrl_moe.runs.stopping import Ending, StopSignal


def test_sigterm_is_noted_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal().listen() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop and stop.ending is Ending.STOPPED
    assert signal.getsignal(signal.SIGTERM) is before


class Clock:
    """Seconds since the command began."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return begin.BEGAN + self.seconds


def steps_done(durations, minutes, before=0.0):
    """Steps of a loop, as that of training asks, until the signal ends it."""
    clock = Clock()
    stop = StopSignal(minutes, clock)
    clock.seconds += before
    saved = -1
    for number, seconds in enumerate(durations):
        if stop:
            assert stop.ending is Ending.OUT_OF_TIME and saved in (-1, number)
            return number
        stop.next_step()
        clock.seconds += seconds
        if stop:  # then it is saved, which takes time
            saved = number + 1
            clock.seconds += 7
    return len(durations)


@pytest.mark.parametrize("durations, minutes, done", [
    ([10] * 9, 1, 6),          # the sixth ends at 60 s exactly
    ([10] * 9, 0.99, 5),
    ([30, 5, 9, 5, 5, 5], 1, 5),  # what the first took, which compiles, says nothing of the others
    ([31, 5], 1, 1),              # but until there is another it is all that is known
    ([5, 20, 5, 5, 5], 0.6, 2),
    ([1], 1, 1), ([100, 1], 1, 1), ([1] * 50, 0, 50)])
def test_a_run_ends_before_the_step_that_would_go_beyond_its_minutes(durations, minutes, done):
    assert steps_done(durations, minutes) == done


def test_a_command_whose_time_is_over_begins_no_step():
    assert steps_done([1, 1], 1, before=61) == 0


def test_sigterm_counts_for_more_than_the_end_of_the_time():
    with StopSignal(1, lambda: begin.BEGAN + 100).listen() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop and stop.ending is Ending.STOPPED


def test_a_step_that_waits_for_others_is_left_when_the_time_is_over():
    clock = Clock()
    stop = StopSignal(1, clock)
    stop.next_step()
    clock.seconds = 59
    assert not stop.at_once()
    clock.seconds = 61
    assert stop.at_once() and stop and stop.ending is Ending.OUT_OF_TIME


@pytest.mark.parametrize("ending, code, said", [
    (Ending.DONE, None, ""), (Ending.STOPPED, None, "Stopped by SIGTERM; all is saved in runs/a"),
    (Ending.OUT_OF_TIME, 75, "train.max_minutes; all is saved in runs/a. Give the same command again")])
def test_a_command_tells_how_its_run_ended(ending, code, said, capsys):
    if code is None:
        ending.tell("runs/a")
    else:
        with pytest.raises(SystemExit) as error:
            ending.tell("runs/a")
        assert error.value.code == code
    assert bool(ending) == (not said) and said in capsys.readouterr().out
