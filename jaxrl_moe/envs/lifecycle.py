"""Where an episode stands: what may be asked of it, and what is said to what may not."""
from jaxrl_moe.types import UserError


class Lifecycle:
    """Of an episode that begins once, goes on, and ends once."""

    def __init__(self) -> None:
        self._state = "new"

    @property
    def running(self) -> bool:
        """Whether it has begun and has not ended."""
        return self._state == "running"

    def begin(self) -> None:
        """Raises UserError where it has begun before, or has ended."""
        if self._state != "new":
            raise UserError("This episode has begun already: open another one.")
        self._state = "running"

    def check_running(self) -> None:
        """Raises UserError where it has not begun, or has ended."""
        if self._state == "new":
            raise UserError("This episode has not begun: reset it first.")
        if self._state == "ended":
            raise UserError("This episode has ended: open another one.")

    def end(self) -> None:
        """Whatever it was: it has ended."""
        self._state = "ended"
