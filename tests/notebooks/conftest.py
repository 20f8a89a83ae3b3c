"""One fork server for the session."""

from collections.abc import Iterator

import pytest

from tests.fixtures_suite.forks import ForkServer


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()
