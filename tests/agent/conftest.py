"""What the parts of the agent need in every story."""

import io

import pytest
import structlog

from rain.log import Logger


@pytest.fixture
def logger() -> Logger:
    sink = structlog.PrintLogger(io.StringIO())
    made: Logger = structlog.wrap_logger(
        sink, processors=[structlog.processors.KeyValueRenderer()], wrapper_class=Logger
    )
    return made
