"""Which pages of the KV pool are taken, and by how many; and the sizes that device programs are compiled
for."""
from jaxrl_moe.model.cache import TRASH_PAGE


class PagePool:
    """Hands out page numbers and counts how many hold each. The trash page is never handed out."""

    def __init__(self, num_pages: int):
        """num_pages counts the trash page, so num_pages - 1 can be handed out."""
        self.num_pages = num_pages
        self._free = list(range(num_pages - 1, TRASH_PAGE, -1))
        self._holders = [0] * num_pages

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.num_pages - 1 - len(self._free)

    def holders(self, page: int) -> int:
        return self._holders[page]

    def take(self, count: int) -> list[int] | None:
        """Returns `count` pages with one holder each, or None when fewer are free (then nothing is taken)."""
        if count > len(self._free):
            return None
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._holders[page] = 1
        return pages

    def share(self, pages: list[int]) -> list[int]:
        """Adds one holder to each page and returns the pages.

        Raises:
          ValueError: a page is free.
        """
        for page in pages:
            if self._holders[page] < 1:
                raise ValueError(f"page {page} is free and cannot be shared")
            self._holders[page] += 1
        return list(pages)

    def drop(self, pages: list[int]) -> None:
        """Removes one holder from each page; a page without holders is free again.

        Raises:
          ValueError: a page is free already.
        """
        for page in pages:
            if self._holders[page] < 1:
                raise ValueError(f"page {page} is free already")
            self._holders[page] -= 1
            if self._holders[page] == 0:
                self._free.append(page)


def pages_for(tokens: int, page_size: int) -> int:
    return -(-tokens // page_size)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n, and at least 1."""
    return 1 << max(n - 1, 0).bit_length()


def row_bucket(n: int, slots: int) -> int:
    """The smallest of slots, slots / 4, slots / 16, ... (rounded up, from 4 on) that is at least n."""
    rows = slots
    while rows > 4 and n <= max(pages_for(rows, 4), 4):
        rows = max(pages_for(rows, 4), 4)
    return rows
