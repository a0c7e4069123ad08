"""Numbers among a task's settings that are out of range."""
from jaxrl_moe.types import UserError


def check_least(task: object, **least: float) -> None:
    """Raises UserError for the first of a task's settings that is below its least; None is not looked at."""
    for name, bound in least.items():
        value = getattr(task, name)
        if value is not None and value < bound:
            raise UserError(f"{name} = {_said(value)} is out of range: it must be at least {_said(bound)}.")


def check_range(task: object, **bounds: tuple[float, float]) -> None:
    """Raises UserError for the first of a task's settings that is below its least or above its most."""
    for name, (least, most) in bounds.items():
        value = getattr(task, name)
        if not least <= value <= most:
            raise UserError(f"{name} = {_said(value)} is out of range: it must be at least {_said(least)} "
                            f"and at most {_said(most)}.")


def check_above_zero(task: object, *names: str) -> None:
    """Raises UserError for the first of a task's settings that is not above 0."""
    for name in names:
        if not getattr(task, name) > 0:
            raise UserError(f"{name} = {_said(getattr(task, name))} is out of range: it must be above 0.")


def _said(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
