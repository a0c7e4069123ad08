"""A full disk at each place that a run writes to: what it says, and that with space again the same command
comes to the same bits."""
import pathlib
import re
import shutil
import time
from collections.abc import Iterator, Sequence

from benchmarks.kills import full, runs
from benchmarks.kills.signals import Seen


def fill(places: Sequence[str], folder: pathlib.Path) -> Iterator[Seen]:
    """Yields what came of each place in turn; the folder has the run that nothing disturbed."""
    with full.disk(folder / "disk") as made:
        for place in places:
            yield _fill(place, folder, made)


def _fill(place: str, folder: pathlib.Path, has_disk: bool) -> Seen:
    seen = Seen(f"full disk: {place}")
    began = time.monotonic()
    if full.PLACES[place][1] and not has_disk:
        seen.name += " (not tried: no tmpfs can be mounted here)"
        return seen
    run = folder / "run"
    real = folder / "disk" / "run"
    shutil.rmtree(real, ignore_errors=True)
    real.mkdir(parents=True)
    run.unlink(missing_ok=True) if run.is_symlink() else shutil.rmtree(run, ignore_errors=True)
    run.symlink_to(real)
    seen.problems += _of_place(place, folder, real, seen)
    run.unlink()
    seen.seconds = time.monotonic() - began
    return seen


def _of_place(place: str, folder: pathlib.Path, real: pathlib.Path, seen: Seen) -> Iterator[str]:
    ended = runs.end_of(runs.launch(folder, "-m", "benchmarks.kills.full", place))
    seen.sent = int(ended.code != 0)
    yield from ended.problems([1])
    said = " ".join(ended.said.split())
    if not re.search(r"[Dd]isk is full|No space left", said):
        yield f"it does not say that the disk is full: {said[:300]}"
    if not re.search(full.PLACES[place][2], said):
        yield f"it does not name {full.PLACES[place][2]}: {said[:300]}"
    if full.PLACES[place][1]:
        full.resize(real, full.ROOMY)
    ended = runs.end_of(runs.launch(folder))
    seen.runs = 1
    yield from ended.problems([0])
    if ended.code == 0:
        yield from runs.differences(real, folder / "undisturbed")
