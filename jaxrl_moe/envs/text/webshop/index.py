"""Products by words: SQLite's full-text index, ranked by BM25 over stems."""
import re
import sqlite3
import threading
from collections.abc import Sequence

from jaxrl_moe.envs.text.webshop.products import Product
from jaxrl_moe.types import UserError

MOST_FOUND = 50
MOST_WORDS = 64  # of a query that are looked for
_WORD = re.compile(r"[^\W_]+")


class ProductIndex:
    """The products of a shop by the words of their titles, descriptions, first features and options, as
    WebShop indexes them. Any thread may search.

    Raises:
      UserError: this Python's SQLite has no FTS5.
    """

    def __init__(self, products: Sequence[Product]):
        self._lock = threading.Lock()
        self._products = products
        self._database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._database.execute(
                "CREATE VIRTUAL TABLE words USING fts5(text, tokenize = 'porter unicode61')")
        except sqlite3.OperationalError as error:
            raise UserError(f"The shop's search needs SQLite with FTS5, and this Python's SQLite "
                            f"{sqlite3.sqlite_version} says: {error}. Use a Python of python.org, conda or "
                            "Debian.") from error
        self._database.executemany("INSERT INTO words(rowid, text) VALUES (?, ?)",
                                   enumerate(map(_text_of, products)))

    def search(self, query: str) -> list[Product]:
        """The best MOST_FOUND products that have any word of a query, the best first; nothing in a query is
        syntax."""
        words = list(dict.fromkeys(_WORD.findall(query)))[:MOST_WORDS]
        if not words:
            return []
        asked = " OR ".join(f'"{word}"' for word in words)
        with self._lock:
            rows = self._database.execute(
                "SELECT rowid FROM words WHERE words MATCH ? ORDER BY round(bm25(words), 9), rowid LIMIT ?",
                (asked, MOST_FOUND)).fetchall()
        return [self._products[number] for number, in rows]


def _text_of(product: Product) -> str:
    options = (f"{name}: {', '.join(values)}" for name, values in product.options.items())
    return " ".join([product.title, product.description, *product.features[:1], *options])
