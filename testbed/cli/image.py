"""`testbed image`: build, list and remove guest images, look into disk images."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from testbed.cli.image_show import show
from testbed.cli.options import PathName
from testbed.cli.terminal import out, print_section, show_progress
from testbed.image.recipe import image_name
from testbed.image.store import ensure_image, list_images, remove_image
from testbed.model.catalog import RECIPES, unknown

image_app = typer.Typer(help="Build, list and remove guest images; look into disk images.", no_args_is_help=True)
image_app.command(epilog="Example: testbed image show disk:customer.qcow2")(show)


@image_app.command(epilog="Example: testbed image build debian")
def build(
    name: Annotated[str, typer.Argument(help="Image recipe (see: testbed list images), or a kernel: path:/src/linux.")],
    refresh: Annotated[bool, typer.Option(help="Build it again, with a newer kernel if the archive has one.")] = False,
    path: PathName = None,
) -> None:
    """Build an image from its recipe, unless it is built already.

    A kernel may stand for the recipe: host, path:KERNEL[,MODULES], deb:FILE[,FILE], rpm:FILE[,FILE] or
    apt:PACKAGE[@SUITE]; it gets the modules and tools of recipe debian.
    """
    built = ensure_image(name, progress=show_progress, refresh=refresh)
    start = "PVH (uncompressed kernel)" if built.vmlinux else "bzImage (this kernel has no PVH entry)"
    out.print(
        f"{escape(built.name)}: {escape(built.package)}, {built.size / 1e6:.1f} MB initramfs, boots by {start}",
        highlight=False,
    )
    if built.absent:
        out.print(f"[dim]not in this kernel: {escape(' '.join(built.absent))}[/dim]")
    out.print(f"[dim]{escape(str(built.folder))}[/dim]", highlight=False, soft_wrap=True)


@image_app.command(name="list")
def image_list() -> None:
    """List the built images."""
    rows = [(each.name, f"{each.package}, {each.size / 1e6:.1f} MB, {each.id[:12]}") for each in list_images()]
    print_section("images", rows or [("none", "testbed image build debian")])


@image_app.command()
def remove(name: Annotated[str, typer.Argument(help="Image recipe, or kernel, whose images to remove.")]) -> None:
    """Remove the built images of a recipe or kernel; their sources stay."""
    name = image_name(name)
    if name not in RECIPES.names() and not any(each.name == name for each in list_images()):
        raise unknown("image", name, RECIPES.names())
    out.print(f"{escape(name)}: {remove_image(name)} removed", highlight=False)
