"""The section that says how episodes of a task are played."""
import dataclasses

from jaxrl_moe.config.setting import setting

_HISTORIES = {
    "append": "what was drawn stays as it was drawn, whatever the chat template makes of earlier turns",
    "branch": "the template writes the conversation anew each turn; where it changes what went before, as "
              "where it drops earlier reasoning, a new sample of the same episode begins"}
_ORDERS = {
    "auto": "fixed where the task is deterministic and rollout.max_staleness is 0, else answered",
    "fixed": "turns are drawn in the order of their draw numbers, and wait for the environments that are at "
             "work: the same run gives the same bits",
    "answered": "each turn is drawn as soon as its environment has answered: a slow one holds nobody up"}
_FAILED = {
    "drop": "its group is left out, and another prompt drawn in its place",
    "complete": "another episode of its group takes its place; as many as group_size in all, then it is left "
                "out"}


@dataclasses.dataclass(frozen=True)
class EpisodesSection:
    """How episodes are played. rounds, max_tokens, history and order concern tasks of several turns."""
    rounds: tuple[int, ...] = setting(
        (), "most turns of an episode; several numbers: every rounds_every steps the next of them; "
        "empty: as many as the task allows", at_least=1)
    rounds_every: int = setting(0, "steps after which the next number of rounds holds", at_least=0)
    max_tokens: int = setting(
        0, "longest episode: all its turns and observations after the first prompt; needed where there are "
        "several turns, of which rollout.max_tokens bounds each", at_least=0, unit="tokens")
    history: str = setting("append", "what a turn sees of the turns before it", choices=_HISTORIES)
    order: str = setting("auto", "in which order turns are drawn", choices=_ORDERS)
    step_timeout: float = setting(
        600.0, "time within which an environment must have begun, or answered an action", above=0,
        unit="seconds")
    episode_timeout: float = setting(
        0.0, "time that an episode's environment may take in all; 0: unbounded", at_least=0, unit="seconds")
    retries: int = setting(2, "times that an episode whose environment failed is tried again", at_least=0)
    failed: str = setting("drop", "what becomes of an episode that failed in all its tries", choices=_FAILED)
    max_error_rate: float = setting(
        0.2, "share of the last error_window tries that may fail; above it the run stops",
        at_least=0, at_most=1)
    error_window: int = setting(
        64, "tries that max_error_rate looks at; more where so many episodes are open at once that to lose "
        "all of them would go beyond it", at_least=1)
