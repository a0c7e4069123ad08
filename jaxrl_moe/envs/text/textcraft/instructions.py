"""What a policy is told before its first turn, and answers in the form that it is told."""
from jaxrl_moe.envs.text.answers import REACT, react
from jaxrl_moe.envs.text.functions import GameFunction

COMMANDS = """\
You craft an item, one command in each turn. First you are shown crafting commands and the goal; after each of
your commands you are told what came of it. The commands:
- get N item: finds N of an item that cannot be crafted, as in get 2 lapis lazuli
- craft N item using N item, N item: one of the crafting commands that you are shown, with its own numbers, as
in craft 1 golden carrot using 8 gold nugget, 1 carrot. Where it names a kind of item, as planks, name an item
that you carry instead, as dark oak planks
- inventory: tells what you carry
"""
INSTRUCTIONS = COMMANDS + REACT.format(thing="command")
TERSE_INSTRUCTIONS = ("Craft the goal, one command a turn:\n"
                      "Action: get N item\nAction: craft N item using N item, N item\nAction: inventory")
CALLING = """\
You craft an item, one command in each turn, which you give by calling a function. First you are shown
crafting commands and the goal; after each of your commands you are told what came of it. Where a crafting
command names a kind of item, as planks, name an item that you carry instead, as dark oak planks."""
FUNCTIONS = (
    GameFunction("get", "Finds so many of an item that cannot be crafted.", "get {count} {item}",
                 {"count": "how many, as 2", "item": "the item, as lapis lazuli"}),
    GameFunction("craft", "Uses one of the crafting commands that were shown, with its own numbers.",
                 "craft {count} {item} using {ingredients}",
                 {"count": "how many it makes", "item": "what it makes, as golden carrot",
                  "ingredients": "what it takes, as 8 gold nugget, 1 carrot"}),
    GameFunction("inventory", "Tells what you carry.", "inventory"))


def instructions(terse: bool) -> str:
    """What goes before the first observation, as a system message."""
    return TERSE_INSTRUCTIONS if terse else INSTRUCTIONS


def answer(command: str, thought: str, terse: bool) -> str:
    """A turn that gives a command as the instructions ask for."""
    return f"Action: {command}" if terse else react(command, thought)
