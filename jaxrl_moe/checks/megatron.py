"""Folders of Megatron's checkpoints: what is in them, and what lacks."""
import pathlib

LATEST = "latest_checkpointed_iteration.txt"
WEIGHTS = "model_optim_rng.pt"
NEWEST_FORMAT = ".metadata"  # of torch_dist's checkpoints, whose weights are in shards beside it


def is_megatron(folder: pathlib.Path) -> bool:
    """Whether a folder is one of Megatron's, or an iteration in it."""
    return (folder / LATEST).is_file() or any(folder.glob("mp_rank_*"))


def described(folder: pathlib.Path) -> str:
    """What a Megatron folder holds, in words; files that lack are named."""
    named = _latest(folder)
    if named is None:
        return f"{LATEST} holds no iteration"
    where = folder / named
    if not where.is_dir():
        return f"{LATEST} names {named}, which is not there"
    name = named or folder.name
    if (where / NEWEST_FORMAT).is_file():
        return f"{name} in torch_dist's format, {len(list(where.glob('*.distcp')))} files"
    ranks = sorted(rank for rank in where.glob("mp_rank_*") if rank.is_dir())
    lacking = [rank.name for rank in ranks if not _readable(rank / WEIGHTS)]
    lacking += _gaps([rank.name for rank in ranks])
    what = f"{name} with {len(ranks)} ranks"
    return f"{what}; {', '.join(lacking)} without {WEIGHTS}" if lacking else what


def _latest(folder: pathlib.Path) -> str | None:
    """The folder of the newest iteration; "" where this one is it, None where the file is damaged."""
    path = folder / LATEST
    if not path.is_file():
        return ""
    text = path.read_text(errors="replace").strip()
    if text == "release":
        return text
    return f"iter_{int(text):07d}" if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _readable(path: pathlib.Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _gaps(names: list[str]) -> list[str]:
    """Names below the last rank of tensor parallelism that are not there."""
    ranks = [name.split("_")[2] for name in names]
    numbers = {int(rank) for rank in ranks if rank.isascii() and rank.isdecimal() and len(rank) < 6}
    return [f"mp_rank_{number:02d}" for number in range(max(numbers, default=0)) if number not in numbers]
