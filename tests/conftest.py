"""Shared by all tests: one thread each (pytest-xdist runs several), the reference data if any."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def project() -> Path:
    """The checkout that is tested."""
    return PROJECT


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real images; skips where UNET_SLIDES_DATA does not name one."""
    folder = os.environ.get("UNET_SLIDES_DATA")
    if not folder:
        pytest.skip("UNET_SLIDES_DATA is not set: no reference data")
    return Path(folder)
