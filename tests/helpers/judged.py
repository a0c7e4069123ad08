"""Works, rubrics and answers for tests of judges."""
from jaxrl_moe.judges.queue.queue import Given
from jaxrl_moe.judges.records import Ask, Work
from jaxrl_moe.judges.rubric import Criterion, Rubric

MINUTES = 600.0  # of a lease, in seconds
RUBRIC = Rubric("page", (Criterion("layout", 0.75, "bounded", "Is it tidy?"),
                         Criterion("title", 0.25, "binary", "Is there a title?")))
BY_RUBRIC = Ask(RUBRIC, run="run")
PAIRWISE = Ask(RUBRIC, "pairwise", run="run")
RANKING = Ask(RUBRIC, "ranking", run="run")


def work(number, **fields):
    return Work("Build a page.", (f"<p>{number}",), **fields)


def group(count, name="group", size=0):
    return [work(number, group=name, group_size=size or count) for number in range(count)]


def number_of(shown):
    """The number that work() was given."""
    return int(shown.turns[-1].removeprefix("<p>"))


def scored(layout=0.5, title=1, **fields):
    return Given(({"layout": layout, "title": title},), **fields)


def best_first(lease, **fields):
    """An order in which higher numbers are better."""
    numbers = [number_of(shown) for shown in lease.works]
    return Given(order=tuple((place,) for place in sorted(range(len(numbers)), key=lambda at: -numbers[at])),
                 **fields)


def answer_all(queue, judge, given):
    """Answers whatever the judge is shown; returns the leases."""
    leases = []
    while lease := queue.lease(judge, MINUTES):
        queue.answer(judge, lease.token, given(lease) if callable(given) else given)
        leases.append(lease)
    return leases
