"""What POST /rollouts takes. A field that is not here is refused."""
from typing import Annotated

from pydantic import Field, field_validator

from jaxrl_moe.serving.policy.bodies import ApiKey, SamplingBody

MOST_IDS = 1024      # of a request
MOST_ROUNDS = 1024   # a policy's context ends most episodes before
MOST_NUMBER = 2**53
LONGEST_NAME = 400
LONGEST_URL = 2000

Id = (Annotated[int, Field(ge=0, lt=MOST_NUMBER)]
      | Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)])


class RolloutsBody(SamplingBody):
    env: str = Field(max_length=LONGEST_NAME, description="the environment that is served, by its name")
    model: str = Field(min_length=1, max_length=LONGEST_NAME, description="as its server calls it")
    base_url: str = Field(max_length=LONGEST_URL, description="of an OpenAI-compatible server, with or "
                          "without /v1")
    ids: list[Id] = Field(min_length=1, max_length=MOST_IDS, description="numbers of episodes, or AgentGym's "
                          "item_ids, such as textcraft_12; each is played as often as it stands there")
    max_round: int | None = Field(None, ge=1, le=MOST_ROUNDS, description="turns of the policy in an "
                                  "episode; null: as many as the environment's own limit")
    api_key: ApiKey | None = Field(None, max_length=LONGEST_URL, description="of the policy's server; it is "
                                   "sent nowhere else, and written nowhere")

    @field_validator("base_url")
    @classmethod
    def _is_printable(cls, url: str) -> str:
        if not url.isascii() or not url.isprintable():
            raise ValueError("it must be a URL, such as http://127.0.0.1:8001")
        return url

    @property
    def rows(self) -> list[dict[str, int | str]]:
        """The data row that names each episode."""
        return [{"id": each} if isinstance(each, int) else {"item_id": each} for each in self.ids]
