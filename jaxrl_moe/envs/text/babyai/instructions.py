"""What a policy is told before its first turn, and answers in the form that it is told."""
from jaxrl_moe.envs.text.answers import REACT, react
from jaxrl_moe.envs.text.functions import GameFunction

ACTIONS = """\
You are an agent in rooms with walls, and have a goal there. In each turn you are told what you see, and take
one of the available actions:
- turn left, turn right, move forward
- go to OBJECT N: goes there, until the object is in front of you
- pickup OBJECT N: goes there and picks it up; you can carry one object
- drop: puts what you carry in front of you
- go through DOOR N: goes into an open door
- toggle and go through DOOR N: goes to a closed door, opens it and goes into it; for a locked one you must
carry a key of its colour
- toggle: opens or closes the door in front of you, or opens the box
- check available actions: tells again what you see
OBJECT and DOOR are named with their colour, and doors with open, closed or locked, as in go to red ball 1 or
toggle and go through blue locked door 2.
"""
INSTRUCTIONS = ACTIONS + REACT.format(thing="action")
TERSE_INSTRUCTIONS = "Reach the goal, one of the available actions a turn:\nAction: turn left"
CALLING = """\
You are an agent in rooms with walls, and have a goal there. In each turn you are told what you see and which
actions are available, and take one of these by calling a function. What you name, you name as you are shown
it, as red ball 1 or blue locked door 2."""
_OBJECT = {"object": "as it is shown, such as red ball 1"}
_DOOR = {"door": "as it is shown, such as blue locked door 2"}
FUNCTIONS = (
    GameFunction("turn_left", "Turns to the left.", "turn left"),
    GameFunction("turn_right", "Turns to the right.", "turn right"),
    GameFunction("move_forward", "Takes a step ahead.", "move forward"),
    GameFunction("go_to", "Goes to an object, until it is in front of you.", "go to {object}", _OBJECT),
    GameFunction("pickup", "Goes to an object and picks it up; you can carry one.", "pickup {object}",
                 _OBJECT),
    GameFunction("drop", "Puts what you carry in front of you.", "drop"),
    GameFunction("go_through", "Goes into an open door.", "go through {door}", _DOOR),
    GameFunction("toggle_and_go_through", "Goes to a closed door, opens it and goes into it; for a locked "
                 "one you must carry a key of its colour.", "toggle and go through {door}", _DOOR),
    GameFunction("toggle", "Opens or closes the door in front of you, or opens the box.", "toggle"),
    GameFunction("check_available_actions", "Tells again what you see.", "check available actions"))


def instructions(terse: bool) -> str:
    """What goes before the first observation, as a system message."""
    return TERSE_INSTRUCTIONS if terse else INSTRUCTIONS


def answer(action: str, thought: str, terse: bool) -> str:
    """A turn that takes an action as the instructions ask for."""
    return f"Action: {action}" if terse else react(action, thought)
