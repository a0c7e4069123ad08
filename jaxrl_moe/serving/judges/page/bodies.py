"""What the page sends."""
from pydantic import Field

from jaxrl_moe.judges.queue.queue import Given
from jaxrl_moe.serving.http.bodies import Strict

LONGEST_TOKEN = 200
LONGEST_COMMENT = 10_000
MOST_WORKS = 1024
MOST_SECONDS = 30 * 24 * 3600.0


class LoginBody(Strict):
    token: str = Field(min_length=1, max_length=LONGEST_TOKEN)


class NothingBody(Strict):
    pass


class LeaseBody(Strict):
    """Names a lease."""
    token: str = Field(min_length=1, max_length=LONGEST_TOKEN)


class AnswerBody(LeaseBody):
    """An answer to it: scores of each work under a rubric, or positions, best first, where works are
    compared."""
    scores: list[dict[str, float]] = Field([], max_length=MOST_WORKS)
    order: list[list[int]] = Field([], max_length=MOST_WORKS)
    comment: str = Field("", max_length=LONGEST_COMMENT)
    seconds: float = Field(0.0, ge=0, le=MOST_SECONDS)

    def given(self) -> Given:
        return Given(tuple(self.scores), tuple(map(tuple, self.order)), self.comment, self.seconds)
