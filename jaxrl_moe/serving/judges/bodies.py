"""What a client of a judge server may send; a field that is not here is refused."""
from typing import Annotated, Any, Literal

from pydantic import Field

from jaxrl_moe.judges.records import Ask
from jaxrl_moe.judges.rubric import Rubric
from jaxrl_moe.serving.http.bodies import Strict
from jaxrl_moe.serving.openai.neutral import only


class TaskAppBody(Strict):
    """Whose work it is."""
    id: str
    base_url: str | None = Field(None, description="not called")


class ScoreOptions(Strict):
    event: bool = Field(False, description="whether each turn gets a reward too")
    outcome: Annotated[bool, only(True, reason="the whole work always gets a reward")] = True
    rubric_id: str | None = Field(None, description="of the server's rubrics")
    rubric_overrides: dict[str, Any] | None = Field(
        None, description="fields of its criteria by their ids, or a whole rubric in its place")
    provider: str | None = Field(None, description="who judges; the server's default if absent")
    model: str | None = Field(None, description="one of the server's models")
    max_concurrency: int | None = Field(None, ge=1, description="calls of the model at once; what the server "
                                                                "does not keep to is refused")
    mode: Literal["rubric", "pairwise", "ranking"] = "rubric"
    run: str | None = Field(None, description="the training run that waits; judges are shown it beside the "
                                                "queue's length")


class ScoreBody(Strict):
    policy_name: str = Field("", description="judges are not shown it")
    task_app: TaskAppBody
    trace: dict[str, Any] = Field(
        description='{"task", "turns": [{"text"}], "artifacts": [{"kind": "text|html|png", "content"}], '
                    '"group", "group_size", "copy"}; an object of another form is judged as it is')
    options: ScoreOptions = ScoreOptions()

    def ask(self, rubric: Rubric) -> Ask:
        """How the work is to be judged."""
        return Ask(rubric, self.options.mode, self.options.event, self.options.run or "")
