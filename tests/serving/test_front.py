"""One engine under training's calls and requests from elsewhere, at once."""
import concurrent.futures
import threading

import jax
import numpy as np
import pytest
from flax import nnx

from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.types import Request, SamplingParams, UserError


def requests(count=6, first=0, stream=0, **params):
    rng = np.random.default_rng(0)
    params = SamplingParams(**({"max_tokens": 12, "n": 2} | params))
    return [
        Request(rng.integers(3, 320, 9).astype(np.int32), params, first + i, stream=stream)
        for i in range(count)
    ]


def heard(front, request):
    """Submits it; returns (ticket, chunks that come in, an event at the first of them)."""
    chunks = []
    begun = threading.Event()

    def notify(news):
        chunks.extend(news)
        begun.set()
    return front.serve(request, notify), chunks, begun


def idle(front):
    return front.ask(lambda engine: engine.stats()["kv_pages_used"] == 0)


def test_generate_through_the_front_gives_the_engines_own_bits(front):
    direct = front.ask(lambda engine: engine.generate(requests()))
    for ours, theirs in zip(front.generate(requests()), direct, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.ids, b.ids)
            np.testing.assert_array_equal(a.logprobs, b.logprobs)


def test_a_rollout_and_requests_from_other_threads_share_the_engine(front):
    alone = front.generate(requests())
    others = requests(first=100, stream=5, max_tokens=20)
    expected = front.generate(others)
    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        served = [
            pool.submit(lambda request: front.serve(request, lambda _: None).done.result(60), request)
            for request in others
        ]
        together = front.generate(requests())
    for got, want in zip([*together, *(future.result() for future in served)], [*alone, *expected],
                         strict=True):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.ids, b.ids)
            np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-5)
    assert idle(front)


def test_during_an_update_requests_wait_and_then_go_on_under_the_new_version(front, policy):
    weights = nnx.state(policy[0])
    version = front.version
    ticket, chunks, begun = heard(front, requests(1, max_tokens=40, n=1)[0])
    assert begun.wait(60)
    front.release()
    late, _, late_begun = heard(front, requests(1, first=9, n=1)[0])
    held = len(chunks)
    assert front.paused and not late_begun.wait(0.3) and len(chunks) == held
    assert front.ask(lambda engine: engine._cache is None)
    front.publish(weights, version + 1)
    (done,) = ticket.done.result(60)
    assert set(done.policy_version.tolist()) == {version, version + 1} and (
        np.diff(done.policy_version) >= 0).all()
    assert set(late.done.result(60)[0].policy_version.tolist()) == {version + 1}
    np.testing.assert_array_equal(np.concatenate([chunk.policy_version for chunk in chunks]),
                                  done.policy_version)
    front.release()
    front.resume()
    assert not front.paused and idle(front)


def test_a_cancelled_ticket_frees_its_pages_and_its_future(front):
    ticket, _, begun = heard(front, requests(1, max_tokens=100, n=3)[0])
    waiting, _, _ = heard(front, requests(1, max_tokens=100, n=20)[0])
    assert begun.wait(60)
    front.cancel(waiting)
    front.cancel(ticket)
    front.cancel(ticket)
    assert idle(front) and ticket.done.cancelled() and waiting.done.cancelled()


def test_an_error_in_a_step_reaches_all_who_wait_and_the_front_lives_on(front, policy):
    weights = nnx.state(policy[0])
    version = front.version
    front.release()
    ticket, _, _ = heard(front, requests(1)[0])
    front.publish(jax.tree.map(lambda x: x * float("nan"), weights), version + 1)
    with pytest.raises(UserError, match="not finite"):
        ticket.done.result(60)
    with pytest.raises(UserError, match="not finite"):
        front.generate(requests(2))
    front.publish(weights, version + 2)
    assert len(front.generate(requests(2))) == 2 and front.alive


def test_a_request_that_cannot_be_met_is_refused_at_the_door(front):
    for call in (front.generate, lambda many: front.serve(many[0], print),
                 lambda many: front.submit(many[0])):
        with pytest.raises(UserError, match="context"):
            call(requests(1, max_tokens=10_000))


def test_a_closed_front_fails_what_is_in_flight_and_takes_nothing_more(engine, front):
    front.ask(lambda _: None)
    own = EngineFront(engine)  # the shared front is idle meanwhile, so the engine has one driver
    ticket, _, begun = heard(own, requests(1, max_tokens=100)[0])
    assert begun.wait(60)
    own.close()
    own.close()
    with pytest.raises(UserError, match="closed"):
        ticket.done.result(5)
    with pytest.raises(UserError, match="closed"):
        own.generate(requests(1))
    assert not own.alive
    engine.release()
    engine.cancel(ticket.handle)
    assert idle(front)


def streamed(front, count):
    """{ticket: completions} of so many requests, by step()."""
    done = {}
    while len(done) < count:
        done |= front.step()
    return done


def test_what_the_loop_submits_comes_back_once_with_the_bits_that_a_batch_has(front):
    work = requests(4)
    expected = front.generate(work)
    assert front.step() == {}
    client, _, _ = heard(front, requests(1, first=50, stream=5)[0])
    tickets = [front.submit(request) for request in work]
    dropped = [front.submit(requests(1, max_tokens=60)[0]) for _ in range(2)]
    front.cancel(dropped[0])
    done = front.step()
    front.cancel(dropped[1])
    while len(done) < 4:
        done |= front.step()
    assert done.keys() == set(tickets) and front.step() == {} and idle(front)
    assert all(ticket.done.cancelled() for ticket in dropped)
    assert len(client.done.result(60)) == 2 and client not in done
    for ticket, want in zip(tickets, expected, strict=True):
        for ours, theirs in zip(done[ticket], want, strict=True):
            np.testing.assert_array_equal(ours.ids, theirs.ids)
            np.testing.assert_allclose(ours.logprobs, theirs.logprobs, rtol=1e-4, atol=1e-5)
    assert idle(front)


def test_what_the_loop_submitted_waits_through_a_release_and_can_be_cut(front):
    whole = front.generate(requests(1, max_tokens=60))[0]
    front.release()
    ticket = front.submit(requests(1, max_tokens=60)[0])
    assert front.cut(ticket) is None and front.paused  # nothing is drawn during an update
    done = front.step()
    assert not front.paused
    cut = front.cut(ticket)
    while cut is None and ticket not in done:
        done |= front.step()
        cut = front.cut(ticket)
    for ours, theirs in zip(cut or done[ticket], whole, strict=True):
        np.testing.assert_array_equal(ours.ids, theirs.ids[:len(ours.ids)])
    assert front.step() == {} and front.cut(ticket) is None and idle(front)


def test_an_error_in_a_step_reaches_the_loop_and_its_next_requests_are_drawn(front, policy):
    weights = nnx.state(policy[0])
    version = front.version
    front.release()
    front.submit(requests(1)[0])
    front.publish(jax.tree.map(lambda x: x * float("nan"), weights), version + 1)
    with pytest.raises(UserError, match="not finite"):
        streamed(front, 1)
    front.publish(weights, version + 2)
    front.submit(requests(1)[0])
    assert len(streamed(front, 1)) == 1
