"""The rules: what a command does to what is carried, and what is said of one that does nothing."""
import re
from collections import Counter
from typing import NamedTuple

from jaxrl_moe.envs.text.textcraft.book import CraftingRecipe, Ingredient, RecipeBook
from jaxrl_moe.envs.text.textcraft.goals import inventory
from jaxrl_moe.envs.text.textcraft.planner import Goal
from jaxrl_moe.spelling import cut, escaped

LONGEST_COMMAND = 1000    # characters
MOST_OF_AN_ITEM = 100_000  # in one command
_INVENTORY = ("inventory", "look")
_GET = re.compile(r"get (.*)")
_CRAFT = re.compile(r"craft (.*?) using (.*)")
_COUNTED = re.compile(r"(-?[0-9]+) (\S.*)")


class Reply(NamedTuple):
    """What is said to a command, and whether it did something."""
    text: str
    valid: bool


class _CannotDo(Exception):
    """A command is impossible; the message is for who gave it."""


class Game:
    """A goal that is being worked for.

    Attributes:
      carried: {item: how many}, in the order in which they came; none of 0.
      crafted: the items that were crafted, in order, each once.
      won: whether the goal is met: a craft left as many of its item as it asks for.
    """

    def __init__(self, book: RecipeBook, goal: Goal):
        self._book = book
        self._goal = goal
        self.carried = dict(goal.stock)
        self.crafted: list[str] = []
        self.won = False

    def do(self, command: str) -> Reply:
        """Carries a command out: `get N item`, `craft N item using N item, N item` or `inventory`. An
        impossible one changes nothing."""
        if len(command) > LONGEST_COMMAND:
            return Reply(f"Could not execute a command of {len(command)} characters: write one of at most "
                         f"{LONGEST_COMMAND}.", False)
        words = " ".join(command.lower().split())
        try:
            return Reply(self._done(words), True)
        except _CannotDo as error:
            return Reply(str(error), False)

    def _done(self, words: str) -> str:
        if words in _INVENTORY:
            return inventory(self.carried)
        if match := _GET.fullmatch(words):
            return self._get(match[1])
        if match := _CRAFT.fullmatch(words):
            return self._craft(match[1], match[2])
        raise _CannotDo(f"Could not execute {_shown(words) or 'an empty command'}: the commands are get N "
                        "item; craft N item using N item, N item; and inventory.")

    def _get(self, words: str) -> str:
        item, count = self._counted(words)
        if "," in item:
            raise _CannotDo(f"Could not find {_shown(item)}: get one item at a time.")
        if item in self._book.recipes:
            raise _CannotDo(f"Could not find {item}: it is not found, but crafted.")
        if item in self._book.members:
            raise _CannotDo(f"Could not find {item}: {self._explained(item)}")
        if item not in self._book.items:
            raise _CannotDo(f"Could not find {_shown(item)}: there is no such item.")
        self._add(item, count)
        return f"Got {count} {item}"

    def _craft(self, product: str, parts: str) -> str:
        item = self._product(product)
        used: Counter[str] = Counter()
        for part in parts.split(","):
            name, count = self._counted(part.strip())
            used[name] += count
        recipe = self._recipe(item, used)
        for name, count in used.items():
            there = self.carried.get(name, 0)
            if there < count:
                raise _CannotDo(f"Could not find enough items to craft {self._book.id_of(item)}: it takes "
                                f"{count} {name}, and you have {there}.")
        for name, count in used.items():
            self._add(name, -count)
        self._add(item, recipe.made)
        self.crafted += [item] * (item not in self.crafted)
        self.won = item == self._goal.item and self.carried[item] >= self._goal.count
        return f"Crafted {recipe.made} {self._book.id_of(item)}"

    def _product(self, words: str) -> str:
        """The item that is to be crafted. How many of it is the recipe's own: a number may be left out, and
        is not compared, as in AgentGym."""
        item = self._counted(words)[0] if _COUNTED.fullmatch(words) else words
        if item in self._book.members:
            raise _CannotDo(f"Could not craft {item}: {self._explained(item)}")
        if item not in self._book.items:
            raise _CannotDo(f"Could not craft {_shown(item)}: there is no such item.")
        if item not in self._book.recipes:
            raise _CannotDo(f"Could not craft {item}: it is not crafted, but found.")
        return item

    def _recipe(self, item: str, used: Counter[str]) -> CraftingRecipe:
        for recipe in self._book.recipes[item]:
            if self._fits(recipe.ingredients, used):
                return recipe
        for name in used:
            if name in self._book.members:
                raise _CannotDo(f"Could not craft {item} from {name}: {self._explained(name)}")
            if name not in self._book.items:
                raise _CannotDo(f"Could not craft {item} from {_shown(name)}: there is no such item.")
        given = ", ".join(f"{count} {name}" for name, count in used.items())
        raise _CannotDo(f"Could not find a valid recipe for {self._book.id_of(item)} from {_shown(given)}: "
                        "one takes other ingredients, or other numbers of them.")

    def _fits(self, ingredients: tuple[Ingredient, ...], used: Counter[str]) -> bool:
        """Whether the items can be shared out among the ingredients, each of them to one, with none left."""
        if not ingredients or not used:
            return not ingredients and not used
        first, *others = ingredients
        fitting = [name for name in self._book.choices(first) if used.get(name) == first.count]
        return any(self._fits(tuple(others), used - Counter({name: first.count})) for name in fitting)

    def _counted(self, words: str) -> tuple[str, int]:
        match = _COUNTED.fullmatch(words)
        if not match:
            raise _CannotDo(f"Wrong item format: {_shown(words) or 'nothing'}. Write a number and an item, "
                            "as in 2 coal.")
        digits = match[1].lstrip("0") or "0"
        count = int(digits) if len(digits) < 10 else MOST_OF_AN_ITEM + 1
        if digits[0] == "-" or not 0 < count <= MOST_OF_AN_ITEM:
            raise _CannotDo(f"Wrong number of items: {_shown(match[1])}. Write one from 1 to "
                            f"{MOST_OF_AN_ITEM}.")
        return match[2], count

    def _explained(self, kind: str) -> str:
        return f"it stands for any item of a kind. Name one, such as {self._book.members[kind][0]}."

    def _add(self, item: str, count: int) -> None:
        self.carried[item] = self.carried.get(item, 0) + count
        if not self.carried[item]:
            del self.carried[item]


def _shown(words: str) -> str:
    return cut(escaped(words), 80)
