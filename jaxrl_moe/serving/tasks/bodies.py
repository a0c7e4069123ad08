"""What POST /rollout takes and answers. A field that is not here is refused, and so is one whose request
cannot be met."""
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from jaxrl_moe.serving.policy.bodies import ApiKey, Nearest, SamplingBody

MOST_TURNS = 1024  # a policy's context ends most episodes before
LONGEST_NAME = 400
MOST_OPS = 100_000
MOST_LISTED = 2 * MOST_TURNS  # ops that a request may list
MOST_SECONDS = 7 * 86400.0

Name = Annotated[str, Field(max_length=LONGEST_NAME)]


class EnvConfig(Nearest):
    max_turns: int | None = Field(None, ge=1, le=MOST_TURNS, description="of the policy; the first writes, "
                                  "the others revise")


class EnvSpec(Nearest):
    env_id: Name | None = Field(None, description="comes back with the trajectory")
    env_name: Name | None = Field(None, description="of the task that is served, if it is given")
    config: EnvConfig = Field(default_factory=EnvConfig)
    seed: int = Field(ge=0, description="which instance of the task it is")


class PolicyConfig(SamplingBody):
    """Where the policy is asked and how; what is absent is the policy server's own choice."""
    model: str = Field(min_length=1, max_length=LONGEST_NAME)
    inference_url: str | None = Field(None, max_length=2000, description="base URL of an OpenAI-compatible "
                                      "server, with or without /chat/completions")
    base_url: str | None = Field(None, max_length=2000, description="another name of it")
    api_key: ApiKey | None = Field(None, max_length=2000, description="of that server; it is sent nowhere "
                                   "else, and written nowhere")

    @model_validator(mode="after")
    def _one_url(self) -> "PolicyConfig":
        if self.inference_url and self.base_url and self.inference_url != self.base_url:
            raise ValueError("inference_url and base_url are two names of one thing: give one of them")
        if not self.url:
            raise ValueError("inference_url is needed: the base URL at which the policy answers "
                             "chat/completions")
        return self

    @property
    def url(self) -> str:
        return self.inference_url or self.base_url or ""

    @property
    def sampling(self) -> dict[str, Any]:
        """What goes into each request beside the messages."""
        return self.wishes | {"model": self.model}


class PolicySpec(Nearest):
    policy_id: Name | None = Field(None, description="comes back with the trajectory")
    policy_name: Name | None = Field(None, description="judges keep it; they are not shown it")
    config: PolicyConfig


class RecordSpec(Nearest):
    trajectories: bool = True
    logprobs: bool = Field(False, description="the policy's own server has them")
    value: bool = Field(False, description="there is no value model here")
    return_trace: bool = Field(False, description="the trace that a judge is sent")
    trace_format: Literal["compact", "full"] = Field("compact", description="full: with the conversation")

    @field_validator("logprobs", "value")
    @classmethod
    def _not_recorded(cls, value: bool) -> bool:
        if value:
            raise ValueError("this server records none: a run that trains has them from its own engine. "
                             "Leave it out")
        return value


class SafetySpec(Nearest):
    max_ops: int = Field(MOST_OPS, ge=2, le=MOST_OPS, description="a turn is two: the policy's and the "
                         "environment's")
    max_time_s: float = Field(3600, gt=0, le=MOST_SECONDS, description="for the policy and the environment; "
                              "a judge has a deadline of its own")


class RolloutRequest(Nearest):
    run_id: str = Field(min_length=1, max_length=LONGEST_NAME, description="of this rollout: a second "
                        "request under it gets the answer of the first")
    env: EnvSpec
    policy: PolicySpec
    ops: Annotated[list[Literal["agent", "env"]], Field(max_length=MOST_LISTED)] | None = Field(
        None, description="agent and env by turns, for so many turns at most; empty: to the end")
    record: RecordSpec = Field(default_factory=RecordSpec)
    on_done: Literal["reset", "terminate"] | None = Field(
        None, description="what follows a finished episode while there are ops left; reset goes without ops")
    safety: SafetySpec = Field(default_factory=SafetySpec)
    training_session_id: Name | None = Field(None, description="names the run to judges' queues")
    synth_base_url: str | None = Field(None, description="nothing is sent there")

    @field_validator("ops")
    @classmethod
    def _by_turns(cls, ops: list[str] | None) -> list[str] | None:
        if ops != ["agent", "env"] * (len(ops or ()) // 2) and ops is not None:
            raise ValueError('they must be "agent" and "env" by turns, as ["agent", "env", "agent", "env"]')
        return ops

    @field_validator("synth_base_url")
    @classmethod
    def _nothing_there(cls, url: str | None) -> str | None:
        if url:
            raise ValueError("this server sends nothing there. Leave it out; judges are named by --judge_url "
                             "as the server starts")
        return url

    @model_validator(mode="after")
    def _one_episode(self) -> "RolloutRequest":
        if self.ops and self.on_done == "reset":
            raise ValueError("on_done = 'reset' would begin the same instance again under one run_id: send "
                             "another rollout for it, and say 'terminate' here, or leave ops out")
        return self


class RolloutStep(BaseModel):
    """A turn: what the policy was shown, what it did, what that was worth."""
    obs: dict[str, Any]
    tool_calls: list[dict[str, Any]]
    reward: float
    done: bool
    truncated: bool
    info: dict[str, Any]


class Trajectory(BaseModel):
    env_id: str
    policy_id: str
    steps: list[RolloutStep]
    final: dict[str, Any]
    length: int


class RolloutMetrics(BaseModel):
    """outcome_score and mean_return are null where the rollout was aborted before there was any."""
    episode_returns: list[float]
    mean_return: float | None
    num_steps: int
    num_episodes: int
    outcome_score: float | None
    events_score: float | None
    details: dict[str, Any]


class RolloutResponse(BaseModel):
    run_id: str
    trajectories: list[Trajectory]
    branches: dict[str, Any]
    metrics: RolloutMetrics
    aborted: bool
    ops_executed: int
    trace: dict[str, Any] | None
