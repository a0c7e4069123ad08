"""People as a judge."""
from jaxrl_moe.judges.judge import Judge, TakenBack
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.records import Ask, Verdict, Work


class HumanJudge(Judge):
    """Puts works into a queue that people answer, and waits for what they say.

    Args:
      queue: closed with it.
    """

    def __init__(self, queue: SqlQueue):
        self.queue = queue

    def submit(self, work: Work, ask: Ask) -> str:
        return self.queue.put(work, ask)

    def verdict(self, item: str, wait: float = 0.0) -> Verdict | None:
        state = self.queue.wait(item, wait)
        if state.dropped:
            raise TakenBack(f"People will say nothing of the item {item}: {state.dropped.rstrip('.')}.")
        return state.verdict

    def drop(self, item: str, why: str) -> None:
        self.queue.drop(item, why)

    def close(self) -> None:
        self.queue.close()
