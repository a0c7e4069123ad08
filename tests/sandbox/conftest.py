"""The kinds of sandboxes that this machine has."""
import pytest

from jaxrl_moe.sandbox.ways import Way
from jaxrl_moe.sandbox.working import why_not
from tests.helpers.shut_in import KINDS, kind_name, missing


@pytest.fixture(scope="session", params=KINDS, ids=kind_name)
def kind(request):
    """(way, whether as another user without privileges)"""
    if missing(request.param):
        pytest.skip(missing(request.param))
    return request.param


@pytest.fixture(scope="session", params=list(Way), ids=lambda way: way.value)
def way(request):
    if why_not(request.param):
        pytest.skip(why_not(request.param))
    return request.param
