"""The real environments: an episode over HTTP is, step for step, the one in process."""
import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.textcraft.goals import goal_set
from jaxrl_moe.envs.text.textcraft.planner import plan
from jaxrl_moe.types import EnvError, Status
from tests.helpers.env_servers import env_server, played

ODD = ["Thought: what have I?\n\nAction:\ninventory", "Action: a\nAction: b", "no command at all", ""]


@pytest.mark.parametrize("recipes, every", [("small", 150), ("minecraft", 30)])
def test_textcraft_over_http_is_textcraft_in_process(recipes, every):
    goals = goal_set(recipes)
    local = make_task(f"textcraft(recipes={recipes!r})")
    with env_server(make_task(f"textcraft(recipes={recipes!r})")) as (url, service):
        remote = make_task(f"agentgym(env='textcraft', url={url!r})")
        assert remote.max_turns == local.max_turns and remote.deterministic == local.deterministic
        for number in range(0, len(goals.goals), every):
            row = {"id": number, "recipes": recipes}
            commands = plan(goals.book, goals.goals[number]).commands
            answers = ODD + [f"Thought:\nNow.\n\nAction:\n{command}" for command in commands]
            expected = played(local.open(row, 0), answers)
            assert played(remote.open(row, 0), answers) == expected and expected[-1].reward == 1
        with pytest.raises(EnvError, match="The row is of the recipes 'other'") as refused:
            remote.open({"id": 0, "recipes": "other"}, 0).reset()
        assert refused.value.status == Status.RESET_FAILED
        with pytest.raises(EnvError, match=f"There is no goal {len(goals.goals)}: the recipes {recipes!r}"):
            remote.open({"id": len(goals.goals)}, 0).reset()
        remote.close()
    assert service.sessions.held == 0
