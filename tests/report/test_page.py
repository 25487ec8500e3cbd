"""The page of `mace profile`, in a browser: it works offline, is whole, stays usable, and trusts no name."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chains import HOSTILE, chain, laid_down, profiled
from headless_chromium import Page
from PIL import Image

from mace_core.errors import UsageError
from mace_core.report import LayoutLibrary, ModelProfile, page_html, write_page

needs_layout = pytest.mark.skipif(
    importlib.util.find_spec("netron") is None, reason="netron, which lays out the graph, is not installed"
)


def bring_in_sight(page: Page, of: str) -> None:
    """Scroll to an element, and let the browser show what it now looks like: the pointer acts upon what is shown."""
    page.run(f"document.querySelector({json.dumps(of)}).scrollIntoView({{block: 'center'}})")
    page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def center(page: Page, of: str) -> tuple[float, float]:
    """Where the middle of an element is, once it is in sight."""
    bring_in_sight(page, of)
    box = page.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({_box(of)})")
    return box[0], box[1]


def _box(of: str) -> str:
    return f"document.querySelector({json.dumps(of)}).getBoundingClientRect()"


def colors(page: Page, canvas: str) -> int:
    """How many colors a canvas shows."""
    bring_in_sight(page, canvas)
    return int(
        page.run(
            f"""(() => {{ const c = document.querySelector({json.dumps(canvas)});
            const d = new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer);
            return new Set(d).size; }})()"""
        )
    )


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@needs_layout
def test_it_shows_everything_in_light_and_dark_small_and_wide(
    page: Page, small: ModelProfile, written: Path, width: int, scheme: str
) -> None:
    write_page(written, small)
    page.resize(width, 900)
    page.prefer(scheme)
    page.open(written)
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith("blob:")] == [written.as_uri()]  # it needs nothing else
    assert page.run("document.documentElement.scrollWidth") <= width  # nothing sticks out
    for canvas in ("#graph", "#timeline", "#alive", "#rss"):
        assert colors(page, canvas) > 2, canvas
    assert page.run("byId('graph-status').textContent") == ""
    assert page.run("document.querySelectorAll('#steps tr.row').length") == 30
    pixels = np.asarray(Image.open(io.BytesIO(page.picture())).convert("L"))
    assert (np.median(pixels) > 128) == (scheme == "light")


@needs_layout
def test_the_switch_goes_before_what_the_system_prefers(page: Page, small: ModelProfile, written: Path) -> None:
    write_page(written, small)
    page.prefer("light")
    page.open(written)

    def background() -> Any:
        return page.run("getComputedStyle(document.body).backgroundColor")

    light = background()
    page.run("document.querySelector('[data-theme-choice=dark]').click()")
    dark = background()
    assert dark != light
    page.prefer("dark")
    page.run("document.querySelector('[data-theme-choice=light]').click()")
    assert background() == light
    page.run("document.querySelector('[data-theme-choice=auto]').click()")
    assert background() == dark


@needs_layout
def test_operations_are_searched_sorted_and_selected(page: Page, small: ModelProfile, written: Path) -> None:
    write_page(written, small)
    page.open(written)

    def column(number: int) -> list[str]:
        return list(
            page.run(f"[...document.querySelectorAll('#steps tr.row')].map(r => r.cells[{number}].textContent)")
        )

    times = [float(text) for text in column(5)]
    assert times == sorted(times, reverse=True)  # the longest first
    page.run("document.querySelectorAll('#steps th button')[0].click()")
    assert [int(text) for text in column(0)] == list(range(29, -1, -1))
    page.run("document.querySelectorAll('#steps th button')[0].click()")
    assert [int(text) for text in column(0)] == list(range(30))
    page.run("(s => { s.value = 'add n10'; s.dispatchEvent(new Event('input')) })(byId('search'))")
    assert column(1) == ["n10"]
    assert page.run("byId('found').textContent") == "1 of 30 steps"
    page.click(*center(page, "#steps tr.row td"))
    assert page.run("document.querySelector('#details b').textContent") == "n10"
    details = page.run("byId('details').textContent")
    assert "Add" in details and small.explanation.nodes[10].reason in details
    assert page.run("nodes[selection.node].name") == "n10"  # in the graph and the timeline too


@needs_layout
def test_reasons_show_where_the_pointer_rests(page: Page, small: ModelProfile, written: Path) -> None:
    write_page(written, small)
    page.open(written)
    bring_in_sight(page, "#graph")
    x, y = page.run(
        "(b => { const g = document.__graph, n = g.boxes[0]; "
        "return [b.x + n.x * g.view.scale + g.view.x, b.y + n.y * g.view.scale + g.view.y] })"
        "(byId('graph').getBoundingClientRect())"
    )
    page.mouse("mouseMoved", x, y)
    page.wait("!byId('tip').hidden")
    told = page.run("byId('tip').textContent")
    assert small.wiring.nodes[0].node in told
    assert f"why there: {small.wiring.nodes[0].reason}" in told


@needs_layout
def test_names_of_a_model_are_text_and_nothing_else(page: Page, written: Path) -> None:
    model = chain(12, name=f"{HOSTILE}{{}}".replace("${", "${{").replace("(1)}", "(1)}}"))
    model.graph.input[0].name = "x"
    found = profiled(model, label=HOSTILE)
    assert found.wiring.nodes[0].node == f"{HOSTILE}0"
    write_page(written, found)
    page.open(written)
    assert page.problems == []  # no dialog, no error, nothing fetched
    assert page.run("document.images.length") == 0
    assert page.run("byId('label').textContent") == HOSTILE
    page.run("selectNode(0)")
    assert page.run("document.querySelector('#details b').textContent") == f"{HOSTILE}0"
    names = page.run("[...document.querySelectorAll('#steps tr.row')].map(r => r.cells[1].textContent)")
    assert f"{HOSTILE}0" in names
    assert page.run("document.images.length") == 0


@needs_layout
def test_the_policy_of_the_page_forbids_other_programs(page: Page, small: ModelProfile, written: Path) -> None:
    text = page_html(small, None).replace("</body>", "<script>document.body.dataset.foreign = 'ran'</script></body>")
    written.write_text(text, encoding="utf-8")
    page.open(written)
    assert page.run("document.body.dataset.foreign") is None
    assert any("Content Security Policy" in problem for problem in page.problems)


@needs_layout
def test_a_graph_of_5000_nodes_stays_usable(page: Page, written: Path) -> None:
    write_page(written, laid_down(5000))
    page.open(written)
    assert page.problems == []
    assert len(page.run("document.__graph.boxes.map(b => b.number)")) <= 60  # pieces, not nodes
    assert page.run("document.querySelectorAll('*').length") < 1500
    page.run("selectStep(4321)")
    page.wait("document.__graph.boxes.some(b => b.node && b.node.name === 'n4321')")
    assert page.run("document.__graph.path.length") == 3
    assert page.run("document.querySelector('#steps tr.chosen').cells[0].textContent") == "4321"
    page.run("document.querySelector('#crumbs button').click()")
    page.wait("document.__graph.boxes.length && document.__graph.boxes.every(b => b.piece)")


@needs_layout
def test_a_layout_that_takes_too_long_is_done_in_pieces(page: Page, small: ModelProfile, written: Path) -> None:
    slow = LayoutLibrary(
        "const layout = (nodes) => { while (nodes.length > 40); for (const n of nodes) n.x = n.y = 0; };", "t"
    )
    text = page_html(profiled(chain(60)), slow)
    written.write_text(text, encoding="utf-8")
    page.open(written)
    assert page.run("document.__graph.boxes.length") == 30
    assert "in pieces" in page.run("byId('graph-status').textContent")


def test_without_the_library_the_graph_is_left_out_only_where_that_is_asked_for(
    page: Page, small: ModelProfile, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"netron\) is not installed: install it with .*mace-core\[profile\].*--no-graph"
    ):
        write_page(written, small)
    assert not written.exists()
    write_page(written, small, graph=False)
    page.open(written)
    assert page.problems == []
    assert page.run("byId('graph')") is None
    assert colors(page, "#timeline") > 2


def test_another_layout_of_the_library_is_told(
    small: ModelProfile, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    (tmp_path / "dagre.js").write_text("export default 1;")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Spec())
    monkeypatch.setattr("importlib.metadata.version", lambda name: "4.0")
    with pytest.raises(UsageError, match=r"netron 4\.0 has no graph layout that the page can use"):
        write_page(written, small)


def test_a_page_that_cannot_be_written_leaves_the_old_one(small: ModelProfile, tmp_path: Path) -> None:
    folder = tmp_path / "page.html"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"'.*page\.html' cannot be written: "):
        write_page(folder, small, graph=False)
    assert list(tmp_path.iterdir()) == [folder]
