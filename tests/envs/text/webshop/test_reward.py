"""What a purchase is worth, against cases computed by hand from WebShop's rule."""
import dataclasses
import sys
import types

import pytest

from jaxrl_moe.envs.text.webshop.fuzzy import token_set_ratio
from jaxrl_moe.envs.text.webshop.nouns import listed_nouns, nouns_by
from jaxrl_moe.envs.text.webshop.products import Product, ShoppingGoal, WantedOption
from jaxrl_moe.envs.text.webshop.reward import COLORS, Purchase, color_of, kind_reward, worth
from jaxrl_moe.types import UserError

SHIRT = Product("B000000001", "Acme Cotton Shirt", 20.0, "$20.0", "shirts", "clothing",
                "Clothing › Men › Shirts", ("machine wash", "long sleeve"), ("Soft collar",),
                "A shirt for the office.",
                {"color": ("navy blue", "dark red"), "size": ("large", "x-large")})
LAMP = Product("B000000002", "Globe Lamp", 30.0, "$30.0", "lamps", "home", "Home › Lighting › Lamps",
               ("easy clean",), (), "", {})


def words(title):
    return title.lower().split()


def named(**options):
    return tuple(WantedOption(*pair) for pair in options.items())


def goal(attributes=("machine wash",), options=(), limit=50.0, product=SHIRT):
    return ShoppingGoal("buy it", product, attributes, options, limit)


@pytest.mark.parametrize("one, other, ratio", [
    ("essential oils", "essential oil", 96),          # 2 * 13 letters in common of 27
    ("powder snow", "cool powder snow", 100),         # one holds the other's words
    ("x-large", "large", 100), ("large", "size large", 100), ("12 pack", "pack of 12", 100),
    ("x-large", "size large", 83),                    # "large" and "large x": 10 of 12
    ("red", "blue", 29), ("", "red", 0), ("-", "-", 0), ("été", "t", 100)])
def test_the_likeness_of_texts_is_that_of_their_sets_of_words(one, other, ratio):
    assert token_set_ratio(one, other) == token_set_ratio(other, one) == ratio


def test_a_value_stands_for_the_first_colour_in_it_by_the_alphabet():
    assert COLORS == sorted(COLORS) and len(set(COLORS)) == len(COLORS) == 102
    assert [color_of(value) for value in ("navy blue", "dark red", "red wine", "plaid", "plated")] == [
        "blue", "dark", "red", "plaid", "plated"]


@pytest.mark.parametrize("bought, wanted, options, reward", [
    (SHIRT, goal(), (), 2 / 2),
    (SHIRT, goal(limit=20.0), (), 1), (SHIRT, goal(limit=19.99), (), 1 / 2),
    (SHIRT, goal(("machine washable", "long sleeves")), (), 1),                 # 86 and 96 are more than 85
    (SHIRT, goal(("soft collar", "for the office", "cotton", "silk")), (), 4 / 5),  # what is written counts
    (SHIRT, goal(options=named(size="large")), ("large",), 3 / 3),
    (SHIRT, goal(options=named(size="large")), ("x-large",), 2 / 3),
    (SHIRT, goal(options=(WantedOption("", "large"),)), ("x-large",), 3 / 3),   # without its name it is like
    (SHIRT, goal(options=named(size="large", color="red")), ("large", "dark red"), 3 / 4),  # "dark" is first
    (SHIRT, goal(options=named(size="large", color="dark red")), ("large", "dark red"), 1),
    (SHIRT, goal(options=(WantedOption("", "navy"), WantedOption("", "dark red"))), ("dark red",), 3 / 4),
    (SHIRT, goal(options=named(color="blue")), ("navy blue",), 1),
    (SHIRT, goal(options=named(size="large", color="blue")), (), 2 / 4),
    (LAMP, goal(), (), 0.0)])
def test_a_purchase_is_worth_what_it_meets(bought, wanted, options, reward):
    assert worth(Purchase(bought, options), wanted, words).reward == pytest.approx(reward)


def test_a_worth_says_what_it_is_made_of():
    wanted = goal(("machine wash", "silk"), named(size="large"), 10.0)
    bought = dataclasses.replace(SHIRT, query="tops", product_category="Clothing", title="Cotton Top")
    assert worth(Purchase(bought, ("large",)), wanted, words) == (2 / 4, 1.0, 0.5, 1.0, 0.0)
    assert worth(Purchase(SHIRT, ()), goal(), words).options == 1.0


@pytest.mark.parametrize("title, query, path, kind", [
    ("Acme Cotton Shirt", "tops", "Toys", 1.0),            # all nouns
    ("Cotton Lamp", "tops", "Toys", 1.0),                  # one of three is more than a fifth
    ("Globe Lamp", "shirts", "Clothing › Men › Shirts", 0.0),  # none, whatever the categories say
])
def test_the_kind_of_thing_is_told_by_nouns_first(title, query, path, kind):
    bought = dataclasses.replace(SHIRT, title=title, query=query, product_category=path)
    assert kind_reward(bought, SHIRT, words) == kind


@pytest.mark.parametrize("query, path, kind", [
    ("things", "A › B", 0.5), ("wanted", "A › B", 1.0), ("things", " C ›D", 1.0), ("things", "C › C", 0.5)])
def test_where_an_eighth_of_the_nouns_is_shared_query_or_two_categories_decide(query, path, kind):
    wanted = dataclasses.replace(SHIRT, title="a b c d e f g h", query="wanted", product_category="C › D › E")
    bought = dataclasses.replace(wanted, title="a x", query=query, product_category=path)
    assert kind_reward(bought, wanted, words) == kind
    rarely = dataclasses.replace(wanted, title="a b c d e f g h i j k")
    assert kind_reward(bought, rarely, words) == 0.1


def test_a_title_without_nouns_leaves_it_to_query_and_categories():
    wanted = dataclasses.replace(SHIRT, title="so red")
    assert kind_reward(LAMP, wanted, lambda title: []) == 0.5
    assert kind_reward(SHIRT, wanted, lambda title: []) == 1.0


def test_nouns_are_the_words_that_are_not_listed_as_others():
    assert listed_nouns("Acme 3-Pack Slim Fit Women's Shirts, Red (XL)") == ["acme", "pack", "fit", "women's",
                                                                           "shirts", "xl"]


def test_nouns_by_spacy_are_what_its_model_says_and_need_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    nouns_by.__globals__["_spacy_nouns"].cache_clear()
    with pytest.raises(UserError, match="spacy download en_core_web_lg"):
        nouns_by("spacy")

    def load(name):
        assert name == "en_core_web_lg"
        kinds = {"Acme": "PROPN", "Red": "ADJ", "Shirt": "NOUN"}
        return lambda text: [types.SimpleNamespace(text=word, pos_=kinds[word]) for word in text.split()]

    monkeypatch.setitem(sys.modules, "spacy", types.SimpleNamespace(load=load))
    assert nouns_by("spacy")("Acme Red Shirt") == ["acme", "shirt"]
    nouns_by.__globals__["_spacy_nouns"].cache_clear()
