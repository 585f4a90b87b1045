import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def _one_blas_thread():
    """Matrices here are small: BLAS's threads would only wait for each other."""
    with threadpool_limits(1, "blas"):
        yield
