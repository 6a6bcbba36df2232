"""The HTML report in a browser: what a reader does with mouse and keyboard, and that a guest's words do nothing.

It needs Chromium: `python3 testbed/host/packages.py install tests` installs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testbed.model.outcome import Finding, Verdict
from testbed.report.html_page import html_page

from ..chromium import chromium, find_chromium
from ..paper_rundirs import write_rundir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testbed.model.outcome import Outcome

    from ..chromium import Page

pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="needs a browser: the package chromium"),
    pytest.mark.seconds(10),
]

GOOD, BAD = Verdict.GOOD, Verdict.BAD
HOSTILE = "</script><img src=x onerror='window.broken = 1'><b id=injected>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab
        assert tab.complaints == []


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a report of two machines and three command lines, one of them ignored, and return its address."""
    folder = tmp_path_factory.mktemp("runs")
    outcomes: list[Outcome] = []
    for machine in ("q35", "i440fx"):
        for cmdline in ("", "pcie_aspm=off", "pci=noaer"):
            bad = (machine, cmdline) == ("q35", "pcie_aspm=off")
            cell = folder / f"{len(outcomes)}"
            said = ("pcieport: ignored",) if bad else ("pcieport: Slot(1): Attention button pressed", HOSTILE)
            verdict = BAD if bad else GOOD
            outcomes.append(
                write_rundir(cell, machine=machine, cmdline=cmdline, verdict=verdict, expected=GOOD, said=said)
            )
    return written(folder, outcomes)


def written(folder: Path, outcomes: list[Outcome]) -> str:
    path = folder / "report.html"
    path.write_text(html_page(outcomes))
    return path.as_uri()


def headings(page: Page, selector: str) -> Any:
    return page.evaluate(f"[...document.querySelectorAll('#map {selector}')].map((each) => each.textContent)")


def choose(page: Page, name: str, value: str) -> None:
    page.evaluate(
        f"(() => {{ const one = document.getElementById('{name}'); one.value = '{value}';"
        " one.dispatchEvent(new Event('change')); })()"
    )


def focused(page: Page) -> Any:
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def opened(page: Page) -> Any:
    return page.evaluate("[...document.querySelectorAll('#opened h2')].map((each) => each.textContent)")


def test_the_map_has_an_axis_on_each_side_and_swaps_them(page: Page, matrix: str) -> None:
    page.open(matrix)
    assert headings(page, "tbody th") == ["(none)", "pcie_aspm=off", "pci=noaer"]
    assert headings(page, "thead th") == ["q35", "i440fx"]
    page.evaluate("document.getElementById('swap').click()")
    assert headings(page, "tbody th") == ["q35", "i440fx"]
    assert headings(page, "thead th") == ["(none)", "pcie_aspm=off", "pci=noaer"]
    assert headings(page, "tr:first-child td button")[1] == "✗ ignored ≠"


def test_cells_that_share_a_place_are_counted_and_listed(page: Page, matrix: str) -> None:
    page.open(matrix)
    choose(page, "columns", "")
    assert headings(page, "td button") == ["2✓", "1✓ 1✗ ≠", "2✓"]
    page.evaluate("document.querySelectorAll('#map td button')[1].click()")
    assert opened(page) == ["2 cells stand here"]
    page.evaluate("document.querySelector('#opened li button').click()")
    page.wait("document.querySelector('.pane')")
    assert opened(page) == ["✗ bad disk-unplug q35 pcie_aspm=off"]


def test_arrows_enter_and_escape_do_what_the_mouse_does(page: Page, matrix: str) -> None:
    page.open(matrix)
    page.evaluate("document.querySelector('#map td button[tabindex=\"0\"]').focus()")
    assert focused(page).startswith("(none), q35: good")
    page.press("ArrowDown")
    page.press("ArrowRight")
    assert focused(page).startswith("pcie_aspm=off, i440fx: good")
    page.press("ArrowLeft")
    page.press("Enter")
    page.wait("document.querySelector('.pane')")
    assert opened(page) == ["✗ bad disk-unplug q35 pcie_aspm=off"]
    page.press("Escape")
    page.wait("!document.querySelector('.pane')")
    assert focused(page) == "pcie_aspm=off, q35: bad, ignored, not as expected"


def test_a_cell_shows_findings_with_their_lines_and_the_story_from_the_stimulus_on(page: Page, matrix: str) -> None:
    page.open(f"{matrix}#open=1")
    quotes = page.evaluate("[...document.querySelectorAll('pre.quote')].map((each) => each.textContent)")
    assert quotes[-1] == "<4>[    8.000000] pcieport: ignored"
    story = page.evaluate("[...document.querySelectorAll('.timeline .what')].map((each) => each.textContent)")
    assert story[0] == "stimulus: device_del dev1"
    assert "pcieport: ignored" in story
    assert not page.evaluate("document.querySelector('.log').childElementCount")
    page.evaluate("[...document.querySelectorAll('a.cite')].at(-1).click()")
    page.wait("document.querySelector('.log .cited')")
    assert "pcieport: ignored" in page.evaluate("document.querySelector('.log .cited').textContent")


def test_a_linked_cell_is_told_on_one_screen_and_what_it_rests_on_is_folded(page: Page, matrix: str) -> None:
    page.open(f"{matrix}#open=1")
    told = page.evaluate(
        "[document.querySelector('.pane h2'), document.querySelector('.findings')]"
        ".map((each) => each.getBoundingClientRect()).map(({top, bottom}) => [top, bottom])"
    )
    (top, _), (_, bottom) = told
    assert 0 <= top < bottom <= page.evaluate("innerHeight")
    visible = "[...document.querySelectorAll('pre.quote')].filter((each) => each.checkVisibility()).length"
    assert page.evaluate(visible) == 0
    page.evaluate("document.querySelector('details.evidence summary').click()")
    assert page.evaluate(visible) == 1
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(visible) == page.evaluate("document.querySelectorAll('pre.quote').length")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(visible) == 1


@pytest.fixture
def screen(page: Page) -> Iterator[Page]:
    """Show pages on a screen as laptops have it."""
    page.resize(1440, 1000)
    yield page
    page.call("Emulation.clearDeviceMetricsOverride")


def test_twenty_findings_fit_on_a_screen_a_line_each(screen: Page, tmp_path: Path) -> None:
    """Lines of a trace are named and not quoted, since the page does not hold it."""
    findings = [
        Finding(
            subject=f"the PF at level 1, step {n}", expected="the AER driver tells vfio-pci", observed=SEEN, evidence=e
        )
        for n, e in enumerate(["trace.txt:17", "qmp.jsonl:4"] * 10)
    ]
    screen.open(written(tmp_path, [write_rundir(tmp_path / "0", findings=tuple(findings))]))
    screen.evaluate("document.querySelector('.pane h2').scrollIntoView()")
    bottom = "document.querySelector('.findings').getBoundingClientRect().bottom"
    assert screen.evaluate(bottom) <= screen.evaluate("innerHeight")
    heights = screen.evaluate("[...document.querySelectorAll('.findings tbody tr')].map((each) => each.offsetHeight)")
    assert max(heights) < 1.5 * min(heights) < 50


SEEN = "+11.27 ms: the AER driver tells vfio-pci"


def test_the_timeline_offers_the_tracks_that_it_has(page: Page, matrix: str) -> None:
    page.open(f"{matrix}#open=1")
    offered = page.evaluate("[...document.querySelectorAll('.pane .controls label')].map((each) => each.textContent)")
    assert offered == ["action", "qmp", "guest", "kernel", "console", "from the stimulus on"]


def test_two_cells_stand_side_by_side_with_their_differences_marked(page: Page, matrix: str) -> None:
    page.open(f"{matrix}#open=0")
    page.evaluate("document.querySelectorAll('#map td button')[2].focus()")
    page.press("c", "c")
    page.wait("document.querySelectorAll('.pane').length === 2")
    assert opened(page) == ["✓ good disk-unplug q35", "✗ bad disk-unplug q35 pcie_aspm=off"]
    marked = page.evaluate("[...document.querySelectorAll('.timeline tr.only .what')].map((each) => each.textContent)")
    assert "pcieport: ignored" in marked
    assert "pcieport: Slot(1): Attention button pressed" in marked
    assert 'device_del {"id": "dev1"}' not in marked
    other = "[...document.querySelectorAll('.facts tr:is(.changed, .only) th')].map((each) => each.textContent)"
    differing = page.evaluate(other)
    assert {"cmdline", "verdict"} <= set(differing)
    assert "machine" not in differing


def test_a_link_leads_to_the_same_view(page: Page, matrix: str) -> None:
    page.open(matrix)
    choose(page, "rows", "machine")
    choose(page, "columns", "")
    page.open(page.evaluate("location.href"))
    assert headings(page, "tbody th") == ["q35", "i440fx"]


def test_only_what_is_not_as_expected_can_be_shown(page: Page, matrix: str) -> None:
    page.open(matrix)
    page.evaluate("document.querySelector('#verdicts input').click()")
    assert headings(page, "td button") == ["✗ ignored ≠"]
    page.evaluate("document.querySelector('#verdicts button.bad').click()")
    assert headings(page, "p") == ["No cell is shown."]


def test_what_a_guest_wrote_is_text(page: Page, tmp_path: Path) -> None:
    outcomes = [
        write_rundir(tmp_path / f"{n}", cmdline=f"{HOSTILE}{n}", said=[HOSTILE], id=HOSTILE, reason=HOSTILE, lines=3)
        for n in range(2)
    ]
    page.open(f"{written(tmp_path, outcomes)}#open=0%2B1")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.wait("document.querySelectorAll('.log .cited').length === 2")
    assert opened(page)[0] == f"✓ good {HOSTILE}"
    assert page.evaluate("window.broken === undefined && !document.querySelector('img, #injected')")


def test_rows_are_made_as_they_come_into_view_and_all_for_print(page: Page, tmp_path: Path) -> None:
    outcomes = [write_rundir(tmp_path / f"{n}", cmdline=f"a={n}", lines=1) for n in range(400)]
    page.open(written(tmp_path, outcomes))
    assert page.evaluate("document.querySelectorAll('#map tbody tr').length") < 400
    page.evaluate("document.querySelectorAll('#map td button')[99].focus()")
    page.press("ArrowDown")
    assert "a=100: good" in focused(page)
    assert page.pdf().startswith(b"%PDF")
    assert page.evaluate("document.querySelectorAll('#map tbody tr').length") == 400


def test_a_map_of_many_columns_is_not_cut_off_on_paper(screen: Page, tmp_path: Path) -> None:
    outcomes = [
        write_rundir(tmp_path / f"{machine}{n}", machine=machine, cmdline=f"option{n}=value pcie_aspm=off", lines=1)
        for machine in ("q35", "i440fx")
        for n in range(16)
    ]
    screen.open(f"{written(tmp_path, outcomes)}#rows=machine&columns=cmdline")
    screen.emulate(media="print")
    screen.resize(718, 1000)  # A4 with Chromium's margins
    assert screen.evaluate("document.documentElement.scrollWidth") <= 718
    screen.emulate()


def test_what_was_run_is_printed_and_kernel_logs_stay_folded(page: Page, matrix: str) -> None:
    page.open(f"{matrix}#open=1")
    folded = "[...document.querySelectorAll('details:not([open]) summary')].map((each) => each.textContent)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(folded) == ["Kernel log, 401 lines"]
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert "What was run" in page.evaluate(folded)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: Page, matrix: str, scheme: str) -> None:
    """Contrast is 4.5 at least (WCAG 2.1, 1.4.3) for every text that is shown."""
    page.emulate(scheme=scheme)
    page.open(f"{matrix}#open=0%2B1")
    assert page.evaluate(_CONTRAST) >= 4.5
    page.emulate()


_CONTRAST = """(() => {
  const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => { const [r, g, b] = parts(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (element) => { for (let each = element; each; each = each.parentElement) {
    const colour = getComputedStyle(each).backgroundColor;
    if ((parts(colour)[3] ?? 1) > 0) return colour; } return "rgb(255, 255, 255)"; };
  const texts = [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility()
    && !["SCRIPT", "OPTION"].includes(each.tagName)
    && [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  return Math.min(...texts.map((each) => {
    const [one, other] = [light(getComputedStyle(each).color), light(ground(each))].sort((a, b) => b - a);
    return (one + 0.05) / (other + 0.05); }));
})()"""
