"""What a policy is told before its first turn, and answers in the form that it is told."""
from jaxrl_moe.envs.text.answers import REACT
from jaxrl_moe.envs.text.functions import GameFunction

COMMANDS = """\
You are in a room of a house, and have a task there. In each turn you are told what you see and which commands
would do something now, and give one of these:
- go to PLACE: goes there, as in go to cabinet 2
- open PLACE, close PLACE: of what you stand at; what is shut shows nothing and takes nothing
- take THING from PLACE, move THING to PLACE: you can carry one thing
- heat THING with microwave 1, cool THING with fridge 1, clean THING with sinkbasin 1: what you carry, where
you stand at such
- use THING: turns a lamp on, where you stand at it
- examine THING, examine PLACE, look, inventory, help
To look at a thing under a lamp, carry it there and use the lamp.
"""
INSTRUCTIONS = COMMANDS + REACT.format(thing="command")
TERSE_INSTRUCTIONS = "Do the task, one available command a turn:\nAction: look"
CALLING = """\
You are in a room of a house, and have a task there. In each turn you are told what you see and which commands
would do something now, and give one of these by calling a function. Places and things are named as they are
shown, as cabinet 2. You can carry one thing. To look at a thing under a lamp, carry it there and use the
lamp."""
_THING = "as it is shown, such as mug 1"
_PLACE = "as it is shown, such as cabinet 2"
_BOTH = {"obj": _THING, "recep": _PLACE}
FUNCTIONS = (
    GameFunction("goto", "Goes to a place.", "go to {recep}", {"recep": _PLACE}),
    GameFunction("take", "Takes a thing from the place where you stand.", "take {obj} from {recep}", _BOTH),
    GameFunction("put", "Puts the thing that you carry to the place where you stand.",
                 "move {obj} to {recep}", _BOTH),
    GameFunction("open", "Opens the place where you stand.", "open {recep}", {"recep": _PLACE}),
    GameFunction("close", "Closes the place where you stand.", "close {recep}", {"recep": _PLACE}),
    GameFunction("use", "Turns on a lamp where you stand.", "use {obj}",
                 {"obj": "the lamp, such as desklamp 1"}),
    GameFunction("heat", "Heats the thing that you carry.", "heat {obj} with {recep}",
                 {"obj": _THING, "recep": "such as microwave 1"}),
    GameFunction("cool", "Cools the thing that you carry.", "cool {obj} with {recep}",
                 {"obj": _THING, "recep": "such as fridge 1"}),
    GameFunction("clean", "Cleans the thing that you carry.", "clean {obj} with {recep}",
                 {"obj": _THING, "recep": "such as sinkbasin 1"}),
    GameFunction("slice", "Slices a thing with the knife that you carry.", "slice {obj} with {tool}",
                 {"obj": _THING, "tool": "such as knife 1"}),
    GameFunction("examine", "Looks at a thing or a place closely.", "examine {what}",
                 {"what": "such as mug 1"}),
    GameFunction("look", "Tells where you are.", "look"),
    GameFunction("inventory", "Tells what you carry.", "inventory"))


def instructions(terse: bool) -> str:
    """What goes before the first observation, as a system message."""
    return TERSE_INSTRUCTIONS if terse else INSTRUCTIONS


def answer(command: str, thought: str, terse: bool) -> str:
    """A turn that gives a command as the instructions ask for."""
    return f"Action: {command}" if terse else f"Thought:\n{thought}\n\nAction:\n{command}"
