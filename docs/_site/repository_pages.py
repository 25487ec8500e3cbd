"""MkDocs hook: pages that live beside the code become pages of the site, and links work in both places.

A README, the changelog or a page of docs/ links to files of the repository, as a reader of the repository expects.  On
the site such a link leads to the page that the file became, or to the file in the repository where it became none.  A
link to a file that does not exist stays as it is, so that MkDocs reports it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "testing/README.md": "mace-testing.md",
    **{
        path.relative_to(ROOT).as_posix(): f"{path.parts[-3]}/{path.parent.name}.md"
        for folder in ("examples", "plugins")
        for path in sorted((ROOT / folder).glob("*/README.md"))
    },
}
"""File of the repository -> page of the site."""

SOURCES = {page: source for source, page in PAGES.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(here, f"docs/{here}"))

    def rewritten(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        for candidate in (path, f"{path}/README.md", f"{path}/index.md"):
            uri = PAGES.get(candidate) or candidate.removeprefix("docs/")
            if (candidate in PAGES or candidate.startswith("docs/")) and files.get_file_from_path(uri) is not None:
                return f"]({posixpath.relpath(uri, posixpath.dirname(here) or '.')}{anchor})"
        if (ROOT / path).exists():
            return f"]({config.repo_url}/blob/main/{path}{anchor})"
        return found[0]

    return LINK.sub(rewritten, markdown)
