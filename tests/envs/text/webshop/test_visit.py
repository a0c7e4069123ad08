"""Pages and commands: what a visit shows, and where clicks lead."""
import pytest

from jaxrl_moe.envs.text.webshop.catalogue import Shop, is_held_out, our_shop
from jaxrl_moe.envs.text.webshop.index import ProductIndex
from jaxrl_moe.envs.text.webshop.nouns import listed_nouns
from jaxrl_moe.envs.text.webshop.products import Product, Review, ShoppingGoal, WantedOption
from jaxrl_moe.envs.text.webshop.reward import Purchase, worth
from jaxrl_moe.envs.text.webshop.visit import CannotDoError, Visit

LAMP = Product("B000000002", "Globe Lamp ", 30.0, "$30.0", "lamps", "home", "Home › Lighting › Lamps",
               ("easy clean",), ("It shines", "It is round"), "A lamp.",
               {"color": ("red", "Deep Blue"), "shade": ("red", "none")}, (Review("Fine", "5.0", "Good."),))
GOAL = ShoppingGoal("a red lamp", LAMP, ("easy clean",), (WantedOption("color", "red"),), 40.0)


def visit(products=(LAMP,), **settings):
    return Visit(Shop(products, (GOAL,), ProductIndex(products)), GOAL, listed_nouns, **settings)


def lamps(count):
    return [Product(f"B{number:09d}", f"Lamp {number}", 1.0, "$1.0", "lamps", "", "", (), (), "", {})
            for number in range(count)]


def test_a_visit_shows_the_pages_of_webshops_text_mode():
    shopping = visit(show_attributes=True)
    head = "Instruction: [SEP] a red lamp [SEP] "
    at_item = head + "Back to Search [SEP] < Prev [SEP] "
    item = (at_item + "color [SEP] red [SEP] Deep Blue [SEP] shade [SEP] red [SEP] none [SEP] "
            "Globe Lamp [SEP] Price: $30.0 [SEP] Rating: N.A. [SEP] Description [SEP] Features [SEP] "
            "Reviews [SEP] Attributes [SEP] Buy Now")
    results = head + "Back to Search [SEP] Page {} (Total results: {}) [SEP] {}Next >"
    first = results.format(1, 1, "") + " [SEP] B000000002 [SEP] Globe Lamp [SEP] $30.0"
    start = "WebShop [SEP] " + head + "Search"
    assert shopping.page.text == start
    for command, page in [
            ("search lamps", first), ("click next >", results.format(2, 1, "< Prev [SEP] ")),
            ("click < prev", first), ("click b000000002", item),
            ("click description", at_item + "A lamp."), ("click < prev", item),
            ("click features", at_item + "It shines [SEP] It is round"), ("click < prev", item),
            ("click reviews", at_item + '"Fine" [SEP] 5.0 [SEP] Good.'), ("click < prev", item),
            ("click attributes", at_item + "easy clean [SEP] home [SEP] lamps [SEP] Home › Lighting › Lamps"),
            ("click < prev", item), ("click red", item), ("click < prev", first),
            ("search nothing", results.format(1, 0, "")), ("click back to search", start),
            ("search LAMP", first), ("click B000000002", item),
            ("click buy now", "Thank you for shopping with us! [SEP] Your score (min 0.0, max 1.0) [SEP] "
             "0.6666666666666666")]:
        shopping.do(command)
        assert shopping.page.text == page
    assert shopping.bought.reward == pytest.approx(2 / 3)  # the option was taken back by going back


def test_what_can_be_clicked_is_what_webshops_servers_tell():
    shopping = visit()
    assert shopping.page[1:] == (("search",), True)
    shopping.do("search lamp")
    assert shopping.page[1:] == (("back to search", "next >", "b000000002"), False)
    shopping.do("click b000000002")
    assert shopping.page.clickables == ("back to search", "< prev", "description", "features", "reviews",
                                        "buy now", "red", "Deep Blue", "none")
    shopping.do("click reviews")
    assert shopping.page.clickables == ("back to search", "< prev")


def test_an_option_of_two_names_is_taken_of_the_last_and_another_replaces_it():
    shopping = visit()
    for command in ("search lamp", "click b000000002", "click red", "click  DEEP blue", "click none",
                    "click features",
                    "click < prev", "click buy now"):
        shopping.do(command)
    assert shopping.bought == worth(Purchase(LAMP, ("none",)), GOAL, listed_nouns)


@pytest.mark.parametrize("command, told", [
    ("click search", "search cannot be clicked here. Search first"), ("click buy now", "cannot be clicked"),
    ("click", "There are two commands"), ("look around", "There are two"), ("", "There are two"),
    ("click " + "x" * 2**18, "262150 characters"), ("click \x1b[31m\ud800", r"\x1b[31m\ud800 cannot")])
def test_an_impossible_command_is_told_and_changes_nothing(command, told):
    shopping = visit()
    with pytest.raises(CannotDoError) as error:
        shopping.do(command)
    assert told in str(error.value) and shopping.page == visit().page and shopping.bought is None


def test_results_come_in_pages_of_ten_and_fifty_at_most():
    shopping = visit(lamps(73))
    shopping.do("search lamp")
    assert "Page 1 (Total results: 50)" in shopping.page.text
    for _ in range(4):
        assert len(shopping.page.clickables) in (12, 13)
        shopping.do("click next >")
    last = [each for each in shopping.page.clickables if each.startswith("b0")]
    assert last == [f"b{number:09d}" for number in range(40, 50)]  # of equal rank by their order


@pytest.mark.parametrize("query", [
    '"', '"lamp" OR "', "lamp*", "NEAR(lamp, 2)", "text:lamp", "lamp AND NOT lamp", "(lamp", "-lamp", "^lamp",
    "'; DROP TABLE words; --", "lamp\x00shade", "\ud800 lamp", "Ⓛamp lamp", "{lamp}", "lamp + +"])
def test_a_query_is_words_and_never_syntax(query):
    found = ProductIndex(lamps(3)).search(query)
    assert len(found) == (3 if "lamp" in query.lower() else 0)


def test_a_query_of_any_length_is_answered():
    index = ProductIndex(lamps(3))
    assert index.search("lamp " * 2**16) == index.search("lamp") != []
    assert index.search(" ".join(map(str, range(10**5)))) == [lamps(3)[number] for number in (0, 1, 2)]
    assert index.search("\U0001f600" * 2**18) == index.search("") == []


def test_products_are_found_by_stems_and_the_better_ones_first():
    shop = our_shop(0, 60)
    for product in shop.products:
        found = shop.index.search(product.title.replace("Dress", "dresses"))
        assert found[0].title == product.title


def test_our_shop_follows_from_its_seed_and_its_goals_can_be_met():
    shop = our_shop(0, 60)
    made_again = our_shop.__wrapped__(0, 60)
    assert made_again.products == shop.products and made_again.goals == shop.goals
    assert our_shop(1, 60).products != shop.products
    assert our_shop.__wrapped__(0, 20).goals == shop.goals[:40]
    assert len({product.asin for product in shop.products}) == 60 == len(shop.goals) // 2
    for goal in shop.goals:
        chosen = tuple(option.value for option in goal.options)
        assert worth(Purchase(goal.product, chosen), goal, listed_nouns).reward == 1
        assert goal.product.asin.startswith("OURS") and f"{goal.price_upper:.2f}" in goal.instruction
        assert all(wanted in goal.instruction for wanted in (*goal.attributes, *chosen, goal.product.query))
    assert 5 <= sum(map(is_held_out, shop.products)) <= 20
