"""A server of OpenEnv: it repeats what it is told, and gives 1 for the word that its seed chose."""
import sys

import uvicorn
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

WORDS = ("north", "south", "east", "west")


class Said(Action):
    message: str


class Heard(Observation):
    echo: str


class Echo(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = State()
        self._word = ""

    def reset(self, seed=None, episode_id=None, **kwargs):
        self._state = State(step_count=0)
        self._word = WORDS[(seed or 0) % len(WORDS)]
        return Heard(echo=f"Say a word of {len(self._word)} letters, {kwargs.get('tone', 'please')}.")

    def step(self, action, timeout_s=None, **kwargs):
        self._state.step_count += 1
        won = action.message == self._word
        return Heard(echo=f"{action.message}?", reward=float(won), done=won or self._state.step_count == 3)

    @property
    def state(self):
        return self._state


if __name__ == "__main__":
    app = create_fastapi_app(Echo, Said, Heard, max_concurrent_envs=8)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
