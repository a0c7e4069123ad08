"""What a policy is told before its first turn, and answers in the form that it is told."""

INSTRUCTIONS = """\
You craft an item, one command in each turn. First you are shown crafting commands and the goal; after each of
your commands you are told what came of it. The commands:
- get N item: finds N of an item that cannot be crafted, as in get 2 lapis lazuli
- craft N item using N item, N item: one of the crafting commands that you are shown, with its own numbers, as
in craft 1 golden carrot using 8 gold nugget, 1 carrot. Where it names a kind of item, as planks, name an item
that you carry instead, as dark oak planks
- inventory: tells what you carry
Answer in exactly this form, with one command:
Thought:
why you do it

Action:
the command"""
TERSE_INSTRUCTIONS = ("Craft the goal, one command a turn:\n"
                      "Action: get N item\nAction: craft N item using N item, N item\nAction: inventory")


def instructions(terse: bool) -> str:
    """What goes before the first observation, as a system message."""
    return TERSE_INSTRUCTIONS if terse else INSTRUCTIONS


def answer(command: str, thought: str, terse: bool) -> str:
    """A turn that gives a command as the instructions ask for."""
    return f"Action: {command}" if terse else f"Thought:\n{thought}\n\nAction:\n{command}"
