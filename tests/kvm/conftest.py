"""The nested host, booted once; its commands are told as they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.kvm.nested_host import nested_host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from tests.kvm.nested_host import NestedHost


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nested(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NestedHost]:
    async with nested_host(tmp_path_factory.mktemp("kvm-host")) as host:
        yield host
