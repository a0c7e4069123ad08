"""These tests run where JAXRL_MOE_GPU asks for them: 1 on a GPU, which then must be there; rehearse on the
CPU, to test the tests."""
import os

import jax
import pytest

GPU = os.environ.get("JAXRL_MOE_GPU", "")


@pytest.fixture(scope="session", autouse=True)
def asked_for():
    if not GPU:
        pytest.skip("needs a GPU: set JAXRL_MOE_GPU=1 on a machine that has one, or JAXRL_MOE_GPU=rehearse "
                    "to run on the CPU")
    if GPU == "rehearse":
        return
    try:
        found = jax.default_backend()
    except RuntimeError as error:
        found = str(error)
    if found != "gpu":
        pytest.fail(f"JAXRL_MOE_GPU={GPU}, but JAX found no GPU: {found}")


@pytest.fixture(scope="session")
def rehearsed() -> bool:
    return GPU == "rehearse"
