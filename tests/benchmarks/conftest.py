"""The peers' environment, made once and thrown away."""

from pathlib import Path

import pytest

from tests.benchmarks.peers import make_environment


@pytest.fixture(scope="session")
def peers_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has accelerate, lightning-fabric and this environment's torch."""
    return make_environment(tmp_path_factory.mktemp("peers"))
