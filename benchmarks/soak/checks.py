"""What is wrong in the folder of a leg that has ended."""
import itertools
import pathlib
from collections.abc import Iterator

from benchmarks.soak.legs import GROUP, KEEP, PROMPTS, Leg
from benchmarks.soak.watch import checkpoints, left_behind
from jaxrl_moe.runs.report import read_rows

TEMPORARY = 1 << 20  # bytes of temporary files that killed processes may leave, for the system to clear


def problems(leg: Leg, own: pathlib.Path, steps: int, unkilled: pathlib.Path) -> Iterator[str]:
    """Yields what is wrong, in words.

    Args:
      leg: that has ended.
      own: its run_dir.
      steps: that it was to train.
      unkilled: run_dir of the leg that is never killed; where this is that one, it is compared with nothing.
    """
    yield from _rows_twice(own, steps)
    yield from _draws_twice(own, steps)
    yield from _too_old(leg, own)
    yield from _calls_twice(leg, own)
    yield from _left(leg, own, unkilled)
    if leg.repeats and own != unkilled:
        yield from _other_bits(own, unkilled)


def _rows_twice(own: pathlib.Path, steps: int) -> Iterator[str]:
    logged = [row["step"] for row in read_rows(own / "metrics.jsonl")]
    if logged != list(range(1, steps + 1)):
        yield f"metrics.jsonl has {len(logged)} rows of {len(set(logged))} steps, not each of {steps} once"


def _draws_twice(own: pathlib.Path, steps: int) -> Iterator[str]:
    rows = read_rows(own / "trajectories.jsonl")
    drawn = [(row["sequence"], row["sample"]) for row in rows if row["phase"] == "train"]
    wanted = list(itertools.product(range(PROMPTS * steps), range(GROUP)))
    if sorted(drawn) != wanted:
        different = len(set(drawn))
        yield f"trajectories.jsonl has {len(drawn)} rows of {different} draws, not each of {len(wanted)} once"


def _too_old(leg: Leg, own: pathlib.Path) -> Iterator[str]:
    oldest = max((row["rollout/staleness_max"] for row in read_rows(own / "metrics.jsonl")), default=0)
    if oldest > leg.max_staleness:
        yield f"a token was {oldest:g} versions behind, and {leg.max_staleness} are allowed"


def _calls_twice(leg: Leg, own: pathlib.Path) -> Iterator[str]:
    calls = [row["id"] for row in read_rows(own / "served.jsonl")]
    if len(set(calls)) < len(calls) or bool(calls) != leg.served:
        yield f"served.jsonl has {len(calls)} rows of {len(set(calls))} calls"


def _left(leg: Leg, own: pathlib.Path, unkilled: pathlib.Path) -> Iterator[str]:
    """Files that a run which was never killed has not, and more checkpoints than are kept."""
    more = left_behind(own) - left_behind(unkilled) - ({"served.jsonl"} if leg.served else set())
    if more:
        yield f"files that a run has not which is never killed: {', '.join(sorted(more))}"
    if len(checkpoints(own)) > KEEP + 1:
        yield f"{len(checkpoints(own))} checkpoints are left, where {KEEP} and the best are kept"
    temporary = sum(path.stat().st_size for path in own.with_suffix(".tmp").rglob("*") if path.is_file())
    if temporary > TEMPORARY:
        yield f"{temporary:,} bytes of temporary files are left in {own.with_suffix('.tmp')}"


def _other_bits(own: pathlib.Path, unkilled: pathlib.Path) -> Iterator[str]:
    """Metrics but for times, trajectories, arrays of the last checkpoint, and what was exported."""
    from tests.helpers.runs import assert_same_run
    try:
        assert_same_run(unkilled, own)
    except AssertionError as error:
        yield f"it is not the run that was never killed: {str(error).strip()[:300]}"
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        if (own / name).read_bytes() != (unkilled / name).read_bytes():
            yield f"{name} differs from that of the run that was never killed"
