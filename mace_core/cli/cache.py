"""`mace cache`: what is stored between runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mace_core.cli.exit_codes import FAILURE
from mace_core.cli.shared_options import OutputOptions, shared_options

if TYPE_CHECKING:
    from pathlib import Path

cache_app = typer.Typer(
    help="Show or clear what is stored between runs: compiled kernels, plans, the device inventory.\n\n"
    "Everything in it is created again when it is needed. MACE_CACHE_DIR moves it, MACE_CACHE_LIMIT limits its size.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@cache_app.command("list")
@shared_options
def list_entries(*, output: OutputOptions) -> None:
    """Show the cache folder, and how much of each kind it holds."""
    from mace_core.caching.cache import cache_dir
    from mace_core.cli.output import format_bytes, print_folded, print_table
    from mace_core.presentation import Column, Table, number

    folder = cache_dir()
    kinds = {kind: _files(folder / kind) for kind in _kinds(folder)}
    sizes = {kind: (len(files), sum(_size(file) for file in files)) for kind, files in kinds.items()}

    def text() -> None:
        print_folded(f"{folder}{'' if folder.is_dir() else ' (not there yet)'}")
        if sizes:
            rows = [(kind, str(count), format_bytes(size)) for kind, (count, size) in sizes.items()]
            print_table(Table((Column("kind"), number("entries", 1), number("size")), rows))

    entries = {kind: {"entries": count, "bytes": size} for kind, (count, size) in sizes.items()}
    output.deliver("cache list", {"folder": str(folder), "kinds": entries}, text)


@cache_app.command()
@shared_options
def clear(*, output: OutputOptions) -> None:
    """Delete everything that is stored; other files in the folder stay."""
    from mace_core.caching.cache import CheckedCache, cache_dir
    from mace_core.cli.output import print_folded
    from mace_core.errors import UsageError

    folder = cache_dir()
    removed = kept = 0
    for kind in _kinds(folder):
        before = len(_files(folder / kind))
        cache = CheckedCache(kind, "", folder)
        if fault := cache.fault():
            raise UsageError(f"nothing is removed from {folder / kind}: {fault}")
        cache.clear()
        left = len(_files(folder / kind))
        removed, kept = removed + before - left, kept + left
    text = f"{removed} entries removed from {folder}" + (f", {kept} could not be" if kept else "")
    output.deliver("cache clear", {"folder": str(folder), "removed": removed, "kept": kept}, lambda: print_folded(text))
    if kept:
        raise typer.Exit(FAILURE)


def _kinds(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.entry"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # removed by another process since it was listed
