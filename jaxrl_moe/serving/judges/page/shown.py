"""What the page is told, as JSON: leases, progress, agreement."""
import math
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.judges.queue.queue import JudgeAgreement, Lease, QueueProgress
from jaxrl_moe.judges.records import Part, Work
from jaxrl_moe.serving.judges.page import made

RECENT = 500  # answers that are plotted


def shown_lease(lease: Lease) -> dict[str, Any]:
    """All that a judge sees of an item. Neither the run that waits for it is in it, nor the group."""
    works = [_work(lease, number, work) for number, work in enumerate(lease.works)]
    return {"token": lease.token, "mode": lease.ask.mode, "rubric": lease.ask.rubric.plain(),
            "works": works, **time_left(lease)}


def time_left(lease: Lease) -> dict[str, float]:
    """Seconds rather than a moment: the browser's clock may be another."""
    return {"seconds_left": max(0.0, lease.until - time.time())}


def shown_progress(progress: QueueProgress) -> dict[str, Any]:
    runs = [{"name": name, "items": items} for name, items in progress.runs.items()]
    return {"waiting": progress.waiting, "leased": progress.leased, "postponed": progress.postponed,
            "done": progress.done, "answered": progress.answered, "runs": runs,
            "oldest_seconds": _finite(progress.oldest_seconds)}


def shown_agreement(agreement: JudgeAgreement, judge: str) -> dict[str, Any]:
    """How far a judge agrees with others. How these agree among each other, or fare on gold items, is not for
    their colleagues."""
    pairs = [{"with": second if first == judge else first, "kappa": _finite(kappa)}
             for first, second, kappa in agreement.cohen if judge in (first, second)]
    right, asked = agreement.gold.get(judge, (0, 0))
    return {"items": agreement.items, "fleiss": _finite(agreement.fleiss), "pairs": pairs,
            "gold": {"right": right, "asked": asked},
            "model": _finite(agreement.with_model.get(judge, math.nan))}


def shown_recent(recent: Sequence[tuple[float, float]]) -> list[dict[str, float | None]]:
    """How long ago each answer was given, and how long it took."""
    now = time.time()
    return [{"ago": max(0.0, now - at), "seconds": _finite(seconds)} for at, seconds in recent]


def _work(lease: Lease, number: int, work: Work) -> dict[str, Any]:
    parts = [_part(part, f"/frame/{urllib.parse.quote(lease.token, safe='')}/{number}/{place}")
             for place, part in enumerate(work.shown)]
    return {"task": work.task, "turns": list(work.turns), "parts": parts}


def _part(part: Part, address: str) -> dict[str, str]:
    if part.kind == "html":
        return {"kind": "html", "content": part.content, "frame": address}
    fault = made.fault_of_picture(part) if part.kind == "png" else ""
    if fault:
        return {"kind": "broken", "content": f"A picture that is no PNG: {fault}."}
    return {"kind": part.kind, "content": part.content}


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
