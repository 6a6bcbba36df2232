"""The host with KVM: this one where its own works and root runs the tests, else a nested one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from testbed.host.accel import choose_accel
from testbed.host.packages import KVM_NEEDS, install_line, missing, package_tool
from testbed.host.qemu import find_qemu
from tests.kvm.nested_host import nested_host
from tests.kvm.own_host import own_host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.kvm.kvm_host import KvmHost


# of a module: while it stands it holds a guest slot, which the tests after it want
@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KvmHost]:
    if package_tool() != "apt-get":
        pytest.skip("the lane's root file system is made from an archive of Debian's kind")
    if needs := missing(KVM_NEEDS):
        pytest.skip(f"it is made with {', '.join(need.name for need in needs)}: {install_line(needs)}")
    own = os.geteuid() == 0 and choose_accel("auto", find_qemu()).name == "kvm"
    async with (own_host if own else nested_host)(tmp_path_factory.mktemp("kvm-host")) as host:
        yield host
