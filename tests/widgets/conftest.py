"""Explorers without a page: no event loop runs."""

import asyncio

import pytest


@pytest.fixture(autouse=True)
def no_loop():
    """Hide the loop that Playwright leaves running once this process has driven a browser."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(before)
