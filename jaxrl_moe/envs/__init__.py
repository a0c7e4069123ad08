"""Tasks: each opens episodes for its data rows. `TASKS` names them for env.name; see registry for those of
other packages."""
from jaxrl_moe.envs.registry import TASKS, check_rows, make_task, register

__all__ = ["TASKS", "check_rows", "make_task", "register"]
