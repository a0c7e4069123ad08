"""A few seconds of `make crowd`, which also looks at memory and at how long short requests take."""
from benchmarks.soak.crowd import Crowd
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.types import UserError
from tests.helpers.scripted_texts import Scripted
from tests.helpers.serving import serving
from tests.helpers.tiny_models import make_tokenizer
from tests.helpers.waiting import wait_until

WANTED = {"answered", "streamed", "ten megabytes refused", "left with ten megabytes", "dripped and left"}


class Small(Scripted):
    """With a context that ten megabytes leave."""
    context = 128

    def check(self, request, name=""):
        if len(request.ids) > self.context:
            raise UserError(f"{name} is too long.")


def test_a_crowd_that_leaves_drips_and_sends_megabytes_leaves_nothing_behind(tmp_path):
    tokenizer = Tokenizer(make_tokenizer(tmp_path), "tiny")
    with (EngineFront(Small(tokenizer, "12")) as front, serving(front, tokenizer) as server):
        with Crowd(server.url, count=8, model="tiny") as crowd:
            wait_until(lambda: WANTED <= set(crowd.seen))
            body = {"model": "tiny", "prompt": "Tom has 3", "max_tokens": 2}
            assert server.http.post("/v1/completions", json=body).status_code == 200
        wait_until(lambda: server.service.in_flight == 0)
        wait_until(lambda: not front.ask(lambda engine: engine.work))
    assert not crowd.problems
