"""WebShop's own files: a small folder of their layout, and the goals that its code makes of them."""
import json
import random

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.webshop.files import shop_of
from jaxrl_moe.types import Action, UserError


def product(asin, **others):
    return {"asin": asin, "name": f"Thing {asin}", "category": "home", "query": " Desk Lamps ",
            "product_category": "Home › Lamps", "full_description": "It shines.",
            "small_description": ["Bright"],
            "pricing": "$12.50", "customization_options": None, "images": ["x.jpg"], **others}


PRODUCTS = [
    product("B0A", customization_options={
        "Color": [{"value": " Red/Blue ", "image": None}, {"value": "Green"}], "Size": None,
        "Style": [{"value": "A"}]}),
    product("B0B", pricing="$1,000.00", small_description="One line"), product("B0A"),
    product("nan"), product("B0123456789"), product("B0C", pricing="$10.00 to $30.00", full_description=None),
    product("B0D", pricing=None)]
ATTRIBUTES = {asin: {"attributes": ["easy clean"], "instruction": f"find {asin}",
                     "instruction_attributes": ["easy clean"]} for asin in ("B0A", "B0B", "B0C")}
HUMAN = {"B0A": [{"instruction": "a lamp i like.", "instruction_attributes": ["easy clean"],
                  "instruction_options": ["green"]},
                 {"instruction": "no attribute", "instruction_attributes": [], "instruction_options": []}]}


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, value in {"items_shuffle": PRODUCTS, "items_ins_v2": ATTRIBUTES, "items_human_ins": HUMAN,
                            **files}.items():
            (tmp_path / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
        return str(tmp_path)
    shop_of.cache_clear()
    return write


def test_products_are_read_as_webshop_reads_them(folder):
    shop = shop_of(folder(), "synthetic", 100)
    a, b, c, d = shop.products
    assert a.options == {"color": ("red | blue", "green"), "style": ("a",)} and a.query == "desk lamps"
    assert (a.price, a.price_tag, b.price, b.price_tag) == (12.5, "$12.5", 1000.0, "$1000.0")
    assert b.features == ("One line",) and d.attributes == ("DUMMY_ATTR",) and c.description == ""
    assert c.price_tag == "$10.0 to $30.0" and 10 <= c.price < 30 and d.price == 100.0
    assert [each.asin for each in shop_of(folder(), "synthetic", 2).products] == ["B0A", "B0B"]


def test_synthetic_goals_and_their_order_are_those_of_seed_233(folder):
    shop = shop_of(folder(), "synthetic", 100)
    draws = random.Random(233)
    a_limit = max(draws.sample([20.0, 30.0, 40.0, 50.0], 2))
    c_price = shop.products[2].price
    c_limit = max(draws.sample([10.0 * step for step in range(1, 100) if 10 * step > c_price][:4], 2))
    a_text = f", and price lower than {a_limit:.2f} dollars"
    told = [("find B0A with color: red | blue, and style: a" + a_text, a_limit),
            ("find B0A with color: green, and style: a" + a_text, a_limit), ("find B0B", 1_000_000.0),
            (f"find B0C, and price lower than {c_limit:.2f} dollars", c_limit)]
    random.Random(233).shuffle(told)
    assert [(goal.instruction, goal.price_upper) for goal in shop.goals] == told


def test_goals_that_people_wrote_name_values_alone(folder):
    (goal,) = shop_of(folder(), "human", 100).goals
    assert goal.instruction.startswith("a lamp i like, and price lower than ")
    assert goal.options == (("", "green"),) and goal.attributes == ("easy clean",)


def test_an_episode_over_the_files_is_shopped_as_in_our_shop(folder):
    task = make_task(f"webshop(data={folder()!r}, goals='human')")
    task.ready()
    env = task.open({"id": 0}, 0)
    env.reset()
    answers = ("search[lamps]", "search[shines bright]", "click[b0a]", "click[green]", "click[buy now]")
    assert [env.step(Action(answer, 5, False)).reward for answer in answers] == [0, 0, 0, 0, 1]
    with pytest.raises(UserError, match="is of the shop"):
        task.check_row({"id": 0, "shop": "ours(products=2000, seed=0)"}, 0)


def test_the_smaller_files_are_read_where_both_are_there(folder):
    path = folder(items_shuffle_1000=[product("B0S")], items_ins_v2_1000={"B0S": ATTRIBUTES["B0A"]})
    assert [each.asin for each in shop_of(path, "synthetic", 100).products] == ["B0S"]


@pytest.mark.parametrize("files, told", [
    ({"items_shuffle": "{"}, "is no JSON"), ({"items_shuffle": {}}, "a list is needed"),
    ({"items_shuffle": [{"name": "x"}]}, "Product 0 of .* has no asin"),
    ({"items_ins_v2": []}, "holds a list, a JSON object"),
    ({"items_shuffle": [product("B0A", pricing="$x")]}, "a price such as"),
    ({"items_shuffle": [product("B0A", customization_options={"Color": "red"})]}, "'Color' is a string"),
    ({"items_ins_v2": {}}, "make no goal"),
    ({"items_ins_v2": {"B0A": {"instruction": "x", "instruction_attributes": []}}}, "an attribute is")])
def test_damaged_files_are_refused_with_what_is_wrong(folder, files, told):
    with pytest.raises(UserError, match=told):
        shop_of(folder(**files), "synthetic", 100)


def test_absent_files_are_told_before_a_run(tmp_path):
    task = make_task(f"webshop(data={str(tmp_path)!r})")
    with pytest.raises(UserError, match="has no items_ins_v2_1000.json or items_ins_v2.json: fetch"):
        task.ready()
