"""What a policy is told before its first turn, and answers in the form that it is told."""
from jaxrl_moe.envs.text.answers import REACT
from jaxrl_moe.envs.text.functions import GameFunction

COMMANDS = """\
You are in a house with several rooms, where you do a task of a science lesson, one command in each turn.
First you are shown the task and what is around you; after each of your commands you are told what came of it.
OBJ stands for a thing by the name that you are shown, LOC for a place. The commands:
- look around: tells what is in the room, and where its doors lead
- look at OBJ, look in OBJ: tells about a thing, or what is in it
- read OBJ: reads a note or a book
- inventory: tells what you carry
- task: tells the task again
- go to LOC: goes through an open door
- open OBJ, close OBJ: a door or a container
- activate OBJ, deactivate OBJ: a device
- use OBJ on OBJ, use OBJ: a tool or an instrument
- connect OBJ to OBJ, disconnect OBJ: parts of an electrical circuit
- pick up OBJ, put down OBJ: takes a thing, or leaves it here
- move OBJ to OBJ: puts a thing into a container
- pour OBJ into OBJ: pours a liquid; dunk OBJ into OBJ: a container into a liquid
- mix OBJ: mixes what is in a container
- eat OBJ, flush OBJ
- focus on OBJ: says that this is what the task is about. On a wrong thing the task is lost
- wait, wait1: lets ten moments pass, or one
Where a name means several things you are asked which: answer with the number, as in 0.
"""
INSTRUCTIONS = COMMANDS + REACT.format(thing="command")
TERSE_INSTRUCTIONS = ("Do the task, one command a turn:\n"
                      "Action: look around\nAction: teleport to LOC\nAction: focus on OBJ")
CALLING = """\
You are in a house with several rooms, where you do a task of a science lesson, one command in each turn,
which you give by calling a function. First you are shown the task and what is around you; after each of your
commands you are told what came of it. Things and places go by the names that you are shown."""
TELEPORT = "\nWith teleport to LOC you are at once in any place of the house."
_OBJECT = {"object": "a thing, by the name that you are shown"}
_INTO = {"object": "what is taken", "target": "where it goes"}
FUNCTIONS = (
    GameFunction("look_around", "Tells what is in the room, and where its doors lead.", "look around"),
    GameFunction("look_at", "Describes a thing.", "look at {object}", _OBJECT),
    GameFunction("look_in", "Tells what is in a container.", "look in {object}", _OBJECT),
    GameFunction("read", "Reads a note or a book.", "read {object}", _OBJECT),
    GameFunction("inventory", "Tells what you carry.", "inventory"),
    GameFunction("task", "Tells the task again.", "task"),
    GameFunction("go_to", "Goes through an open door.", "go to {place}", {"place": "where it leads"}),
    GameFunction("open", "Opens a door or a container.", "open {object}", _OBJECT),
    GameFunction("close", "Closes a door or a container.", "close {object}", _OBJECT),
    GameFunction("activate", "Turns a device on.", "activate {object}", _OBJECT),
    GameFunction("deactivate", "Turns a device off.", "deactivate {object}", _OBJECT),
    GameFunction("use", "Uses a tool or an instrument.", "use {tool}[ on {object}]",
                 {"tool": "what is used", "object?": "on what"}),
    GameFunction("connect", "Connects parts of an electrical circuit.", "connect {object} to {target}",
                 {"object": "a part, or a contact of it", "target": "another"}),
    GameFunction("disconnect", "Takes a part out of an electrical circuit.", "disconnect {object}", _OBJECT),
    GameFunction("pick_up", "Takes a thing along.", "pick up {object}", _OBJECT),
    GameFunction("put_down", "Leaves a thing here that you carry.", "put down {object}", _OBJECT),
    GameFunction("move", "Puts a thing into a container.", "move {object} to {target}", _INTO),
    GameFunction("pour", "Pours a liquid into a container.", "pour {object} into {target}", _INTO),
    GameFunction("dunk", "Dunks a container into a liquid.", "dunk {object} into {target}", _INTO),
    GameFunction("mix", "Mixes what is in a container.", "mix {object}", _OBJECT),
    GameFunction("eat", "Eats a thing.", "eat {object}", _OBJECT),
    GameFunction("flush", "Flushes a toilet.", "flush {object}", _OBJECT),
    GameFunction("focus_on", "Says that this is what the task is about. On a wrong thing the task is lost.",
                 "focus on {object}", _OBJECT),
    GameFunction("wait", "Lets ten moments pass.", "wait"),
    GameFunction("wait1", "Lets one moment pass.", "wait1"),
    GameFunction("choose", "Answers which of several things was meant.", "{number}",
                 {"number": "of the thing, as 0"}))
TELEPORTING = GameFunction("teleport_to", "Is at once in any place of the house.", "teleport to {place}",
                           {"place": "its name"})
ALL_FUNCTIONS = (*FUNCTIONS, TELEPORTING)


def instructions(terse: bool, teleport: bool = False) -> str:
    """What goes before the first observation, as a system message; teleport: whether there is that
    command."""
    if terse:
        return TERSE_INSTRUCTIONS
    return COMMANDS + (TELEPORT.lstrip() + "\n") * teleport + REACT.format(thing="command")


def answer(command: str, thought: str, terse: bool) -> str:
    """A turn that gives a command as the instructions ask for."""
    return f"Action: {command}" if terse else f"Thought:\n{thought}\n\nAction:\n{command}"
