"""What failed, the like of it together, each with the command that repeats it."""
import collections
from collections.abc import Iterable

from tests.fuzz.runner import Failure


def report(failures: Iterable[Failure], tried: dict[str, int], *, full: bool = False) -> str:
    """A text: one entry a group, the most frequent first.

    Args:
      failures: all of them.
      tried: {target: inputs}.
      full: print the whole trace of each group's first failure.
    """
    groups = collections.defaultdict(list)
    for failure in failures:
        groups[failure.group].append(failure)
    lines = [f"{sum(map(len, groups.values()))} failures in {len(groups)} groups, of {sum(tried.values())} "
             f"inputs ({', '.join(f'{name} {count}' for name, count in tried.items())})"]
    for (target, kind, what, where), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        first = min(members, key=lambda failure: len(failure.done))
        lines += ["", f"{len(members)} x {target}: {kind}: {what}{f' at {where}' if where else ''}",
                  f"    {first.done[:300]}", f"    {first.again}"]
        shown = first.detail[-2500:].splitlines()
        lines += [f"      {line[:600]}" for line in (shown if full else shown[-1:])]
    return "\n".join(lines)
