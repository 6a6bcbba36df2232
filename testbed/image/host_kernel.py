"""The kernel this host runs: `host`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.image.module_files import BASES
from testbed.image.path_kernel import PathKernel
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from testbed.image.source import FetchedKernel, Progress


@dataclass(frozen=True, kw_only=True)
class HostKernel:
    """The running kernel, as its distribution installed it."""

    root: Path = Path("/")
    release: str = field(default_factory=lambda: os.uname().release)

    def inputs(self) -> list[Path]:
        """Return the kernel, its modules and their tables."""
        return self._installed().inputs()

    def fetch(self, folder: Path, progress: Progress) -> FetchedKernel:
        """Link kernel and modules together in a folder."""
        return self._installed().fetch(folder, progress)

    def _installed(self) -> PathKernel:
        return PathKernel(kernel=self._kernel(), modules=self._modules())

    def _kernel(self) -> Path:
        """Return the kernel's file: Debian and its kin keep it in /boot, Fedora, SUSE and Arch among the modules."""
        places = [self.root / f"boot/vmlinuz-{self.release}", *(folder / "vmlinuz" for folder in self._folders())]
        present = [place for place in places if place.is_file()]
        readable = [place for place in present if os.access(place, os.R_OK)]
        if readable:
            return readable[0]
        if present:
            # Ubuntu keeps it from everybody but root
            raise self._unusable(f"{present[0]} is readable for root alone", f"sudo chmod 0644 {present[0]}")
        looked = " nor ".join(map(str, places))
        raise self._unusable(f"there is neither {looked}", "reboot if the kernel was just updated")

    def _modules(self) -> Path:
        folder = next((folder for folder in self._folders() if folder.is_dir()), None)
        if folder is None:
            looked = " nor ".join(map(str, self._folders()))
            raise self._unusable(f"there is neither {looked}", "reboot if the kernel was just updated")
        return folder

    def _folders(self) -> list[Path]:
        return [self.root / base / self.release for base in BASES]

    def _unusable(self, why: str, mend: str) -> InputError:
        other = "or take another kernel: apt:PACKAGE, path:KERNEL,MODULES, deb:FILE, rpm:FILE"
        return InputError(f"looking for the running kernel {self.release}: {why}", hint=f"{mend}; {other}")
