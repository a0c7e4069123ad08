"""Who waits for an item of a judge server."""
from jaxrl_moe.serving.judges import waiters
from jaxrl_moe.serving.judges.waiters import SILENT_SECONDS, ItemWaiters


def test_the_last_of_those_who_wait_is_known_and_who_is_silent_has_gone(monkeypatch):
    now = [0.0]
    waiting = ItemWaiters(lambda: now[0])
    for client in ("a", "b", "b"):
        waiting.wait("item", client)
    assert not waiting.leave("item", "a") and waiting.leave("item", "b") and not len(waiting)
    assert waiting.leave("item", "a") and waiting.leave("of before this process", "a")
    waiting.wait("item", "a")
    now[0] = SILENT_SECONDS + 1
    waiting.wait("item", "b")
    assert waiting.leave("item", "b")
    monkeypatch.setattr(waiters, "MOST", 2)
    for number in range(3):
        waiting.wait(str(number), "a")
    assert len(waiting) == 3
    now[0] *= 3
    waiting.wait("new", "a")
    assert len(waiting) == 1
