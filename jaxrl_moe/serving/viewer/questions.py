"""What the page may ask for, as queries of its addresses. What is not known is refused."""
import math

from pydantic import BaseModel, ConfigDict, Field

from jaxrl_moe.outside import MOST_INT
from jaxrl_moe.serving.viewer.choosing import Filter

LONGEST_TEXT = 1000  # characters of a search, or of a metric's name
MOST_CURVES = 64


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StepsWanted(Nothing):
    """`least` and `most` bound the reward."""
    outcome: str = Field("", max_length=LONGEST_TEXT)
    least: float | None = None
    most: float | None = None

    def filter(self) -> Filter:
        return Filter(self.outcome, -math.inf if self.least is None else self.least,
                      math.inf if self.most is None else self.most)


class GroupsWanted(StepsWanted):
    """Groups of a step, from the one of number `start` on; of one prompt alone if `prompt_index` is given."""
    step: int = Field(ge=0, le=MOST_INT)
    phase: str = Field(max_length=LONGEST_TEXT)
    start: int = Field(0, ge=0, le=MOST_INT)
    prompt_index: int | None = Field(None, ge=0, le=MOST_INT)


class SearchWanted(Nothing):
    """Rows of a step whose texts hold `text`, in whatever case."""
    step: int = Field(ge=0, le=MOST_INT)
    phase: str = Field(max_length=LONGEST_TEXT)
    text: str = Field(min_length=1, max_length=LONGEST_TEXT)


class RowWanted(Nothing):
    row: int = Field(ge=0, le=MOST_INT)
    version: int = Field(ge=0, le=MOST_INT)


class CurvesWanted(Nothing):
    name: list[str] = Field([], max_length=MOST_CURVES)
