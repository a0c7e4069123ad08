"""What a policy is told before its first turn, and answers in the form that it is told."""

INSTRUCTIONS = """\
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
Answer in exactly this form, with one action:
Thought:
why you do it

Action:
the action"""
TERSE_INSTRUCTIONS = "Reach the goal, one of the available actions a turn:\nAction: turn left"


def instructions(terse: bool) -> str:
    """What goes before the first observation, as a system message."""
    return TERSE_INSTRUCTIONS if terse else INSTRUCTIONS


def answer(action: str, thought: str, terse: bool) -> str:
    """A turn that takes an action as the instructions ask for."""
    return f"Action: {action}" if terse else f"Thought:\n{thought}\n\nAction:\n{action}"
