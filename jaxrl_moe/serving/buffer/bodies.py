"""What clients of a rollout buffer may send, in slime's words; its numbers may come as texts, as slime sends
them."""
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from jaxrl_moe.serving.policy.bodies import Nearest, SamplingBody

MOST_WAIT = 600.0      # seconds that a read may wait
MOST_ITEMS = 2**20
MOST_TURNS = 1024
LONGEST = 4096         # characters of a path or a URL
MOST_SKIPPED = 2**17


def _integer(value: Any) -> Any:
    """A whole number that was sent as a text."""
    is_number = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20
    return int(value) if is_number else value


def _number(value: Any) -> Any:
    """A number that was sent as a text, as long as it is one."""
    try:
        return float(value) if isinstance(value, str) and len(value) < 40 else value
    except ValueError:
        return value


Integer = Annotated[int, BeforeValidator(_integer)]
Number = Annotated[float, BeforeValidator(_number)]
Text = Annotated[str, Field(max_length=LONGEST)]


def _some(count: int) -> int:
    if not count:
        raise ValueError("0 asks for nothing: give a number of items, or -1 for all that are there")
    return count


Items = Annotated[int, Field(ge=-1, le=MOST_ITEMS), AfterValidator(_some)]


class ReadBody(Nearest):
    batch_size: Items = Field(-1, description="items after which no further group is added; -1: all that are "
                                              "there")
    timeout: float = Field(10.0, ge=0, le=MOST_WAIT, description="seconds that so many are waited for")
    wait: bool = Field(True, description="whether they are waited for at all")


class RolloutDataBody(Nearest):
    batch_size: Items = Field(-1, description="items; where there are fewer, none comes; -1: all that are "
                                              "there")


class PeekBody(Nearest):
    batch_size: int = Field(1, ge=1, le=MOST_ITEMS)


class StartBody(Nearest):
    """Of POST /start_rollout."""
    task_type: Text
    input_file: Text = Field(description="the rows; one of the server's own --data")
    remote_engine_url: Text = Field(description="of an OpenAI-compatible server, with or without /v1")
    num_repeat_per_sample: Integer = Field(ge=1, le=4096, description="episodes of a group")
    num_epoch: Integer = Field(1, ge=1, le=10_000, description="passes over the rows")
    num_process: Integer = Field(100, ge=1, le=4096, description="episodes at once, as far as --rollouts "
                                 "lets there be so many")
    max_tokens: Integer | None = Field(None, ge=1, lt=2**31, description="where sampling_params has none")
    sampling_params: SamplingBody = SamplingBody()
    skip_instance_ids: list[int | Text] = Field([], max_length=MOST_SKIPPED, description="groups that are "
                                                "there already; each skips one pass of its row")
    max_turns: Integer | None = Field(None, ge=1, le=MOST_TURNS, description="null: as many as the task has")
    gamma: Number = Field(1.0, ge=0, le=1, description="discount of a turn's reward")
    remote_buffer_url: Text = Field("", description="not called: the episodes go into this buffer")
    tokenizer_path: Text = Field("", description="not read: the policy's own server has its tokenizer")

    @property
    def wishes(self) -> dict[str, Any]:
        """How turns are drawn."""
        limit = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        return limit | self.sampling_params.wishes
