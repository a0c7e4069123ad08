"""kill -9 in the middle of writing and reading: what was acknowledged is there, and nothing comes twice."""
import concurrent.futures
import threading
import time

import httpx
import pytest

from tests.helpers.buffers import BufferProcess, written

GROUPS, SIZE, KILLS = 60, 3, 3


def until_it_works(url, path, body, stop):
    """The answer of a server that is killed and started again meanwhile; None once it is to stop."""
    while not stop.is_set():
        try:
            return httpx.post(f"{url}{path}", json=body, timeout=10).json()
        except httpx.TransportError:
            time.sleep(0.05)
    return None


@pytest.mark.slow
def test_kills_in_the_middle_of_writing_and_reading_lose_no_item_and_hand_none_out_twice(tmp_path):
    with BufferProcess(tmp_path / "b.sqlite", f"--group_size={SIZE}") as server:
        stop = threading.Event()
        read = []
        lost = []

        def reads():
            while not stop.is_set():
                try:
                    answer = httpx.post(f"{server.url}/get_rollout_data", json={}, timeout=10).json()
                    read.extend(each["uid"] for each in answer["data"]["data"])
                except httpx.TransportError:
                    lost.append(True)  # an answer that does not arrive takes its groups along
                time.sleep(0.02)

        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            reader = threads.submit(reads)
            items = [written(number, number % GROUPS) for number in range(GROUPS * SIZE)]
            writes = [threads.submit(until_it_works, server.url, "/buffer/write", each,
                                     stop) for each in items]
            for _ in range(KILLS):
                time.sleep(0.4)
                server.kill()
                server.start()
            assert all(write.result(timeout=60)["success"] for write in writes)
            stop.set()
            reader.result()
        left = httpx.post(f"{server.url}/get_rollout_data", json={}).json()["data"]["data"]
        stats = httpx.get(f"{server.url}/buffer/stats").json()["data"]["data"][0]
    got = read + [each["uid"] for each in left]
    assert len(got) == len(set(got))
    assert stats["total_written"] == stats["total_read"] == GROUPS * SIZE
    assert stats["groups_delivered"] == GROUPS and stats["groups_open"] == 0
    assert lost or len(got) == GROUPS * SIZE
