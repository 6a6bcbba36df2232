"""Kernel modules of the test bed's own, built from C for the kernel of an image (Documentation/kbuild/modules.rst)."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from testbed.host.tools import run_tool
from testbed.image.modules import canonical
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.image.source import FetchedKernel, Progress


def add_drivers(sources: Sequence[Path], fetched: FetchedKernel, scratch: Path, progress: Progress) -> list[str]:
    """Build modules and put them to those of the kernel; return their names.

    Raises:
        InputError: there are no headers to build them with.
        BedError: the compiler is missing, or they could not be built.
    """
    if not sources:
        return []
    if fetched.headers is None:
        raise InputError(
            f"drivers: no headers of {fetched.package}, so {sources[0].name} cannot be built for it",
            hint="take a kernel of the apt archive (apt:PACKAGE@SUITE) or a build tree (path:TREE)",
        )
    headers = fetched.headers()
    progress(f"building {', '.join(source.name for source in sources)} for {fetched.release}")
    folder = scratch / "drivers"
    folder.mkdir()
    for source in sources:
        shutil.copyfile(source, folder / source.name)
    objects = " ".join(source.with_suffix(".o").name for source in sources)
    (folder / "Kbuild").write_text(f"obj-m := {objects}\n")
    # no BTF: that takes pahole, and the kernel's vmlinux
    variables = (f"M={folder}", f"CC={os.environ.get('CC', 'gcc')}", "CONFIG_DEBUG_INFO_BTF_MODULES=")
    command: list[str | Path] = ["make", "-C", headers, *variables, "modules"]
    run_tool(command, doing=f"building {sources[0].name} for {fetched.release}")
    target = fetched.modules / "extra"
    target.mkdir()
    for source in sources:
        shutil.copyfile(folder / source.with_suffix(".ko").name, target / source.with_suffix(".ko").name)
    # depmod shall see them
    (fetched.modules / "modules.dep").unlink(missing_ok=True)
    return [canonical(source.stem) for source in sources]
