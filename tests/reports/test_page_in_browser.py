"""The page of a corpus in a real browser: width on a phone, search, escaping of names.

A frame of the given width contains the page; a script outside the frame operates the page and records the results.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest
from fake_reports import NASTY, fake_corpus, page_of

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path")

ACTING = '"><img src=x onerror="parent.acted=1">'  # acts if inserted as markup
HARNESS = """<!doctype html><iframe src="page.html" style="border:0;width:{width}px;height:800px"></iframe><pre></pre>
<script>
document.querySelector("iframe").onload = (event) => {{
  const page = event.target.contentDocument, seen = {{}};
  const get = (id) => page.getElementById(id);
  const find = (query) => {{
    get("image-search").value = query;
    get("image-search").dispatchEvent(new Event("input"));
    return [get("image-count").textContent, get("image-hits").textContent];
  }};
  const shown = (sample) => [...sample.querySelectorAll(".cell")].filter((cell) => cell.offsetWidth).length;
  seen.wide = page.documentElement.scrollWidth;
  seen.hits = find({query});
  seen.links = [...get("image-hits").querySelectorAll("a")].map((a) => !!get(a.getAttribute("href").slice(1)));
  seen.markup = get("image-hits").querySelectorAll("img, script").length;
  seen.none = find("no such image");
  const sample = page.querySelector(".sample");
  const cell = sample.querySelector(".cell img");
  seen.pixels = [cell.naturalWidth, cell.getBoundingClientRect().width];
  seen.cells = [shown(sample)];
  sample.querySelector("input[value='2']").click();
  seen.cells.push(shown(sample), sample.querySelector(".cell-2").offsetWidth > 0);
  seen.named = [...page.querySelectorAll("input, [tabindex]")].every(
    (node) => node.labels?.length || node.getAttribute("aria-label"));
  seen.acted = window.acted ?? 0;
  document.querySelector("pre").textContent = JSON.stringify(seen);
}};
</script>"""


def browse(folder, page, *, width=390, query="wren"):
    """Return the harness's results for `page` in a frame `width` px wide, after a search for `query`."""
    (folder / "page.html").write_text(page)
    (folder / "harness.html").write_text(HARNESS.format(width=width, query=json.dumps(query)))
    flags = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--allow-file-access-from-files", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--virtual-time-budget=5000",
        f"--user-data-dir={folder}/profile", "--window-size=1500,900",
    )  # fmt: skip
    address = (folder / "harness.html").as_uri()
    completed = subprocess.run([BROWSER, *flags, "--dump-dom", address], capture_output=True, text=True, timeout=120)
    match = re.search(r"<pre>(\{.*?\})</pre>", completed.stdout, re.DOTALL)
    assert match is not None, completed.stderr[-2000:]
    return json.loads(html.unescape(match[1]))


@pytest.mark.parametrize("width", [390, 1440])
def test_a_reader_finds_and_compares_and_nothing_sticks_out(tmp_path, width):
    page = page_of(fake_corpus(tmp_path, rejected=(("jpeg", 1),)), side_px=256)
    seen = browse(tmp_path, page, width=width)
    assert seen["wide"] <= width
    assert seen["hits"][0] == "1 of 2 images."
    assert "wren-1 (train)jp2k: samples" in seen["hits"][1]
    assert "1 (rejected)" in seen["hits"][1]
    assert seen["links"]
    assert all(seen["links"])
    assert seen["none"] == ["0 of 2 images.", ""]
    assert seen["pixels"] == [176, 176]  # of 256: the middle
    assert seen["cells"] == [5, 1, True]  # side by side, then generated only
    assert seen["named"]


def test_no_name_becomes_markup(tmp_path):
    corpus = fake_corpus(tmp_path, distortions=("jpeg", ACTING), batches=1, rejected=((ACTING, 0),), licence=NASTY)
    seen = browse(tmp_path, page_of(corpus, images=(NASTY, ACTING)), query=ACTING)
    assert seen["hits"][0] == "1 of 2 images."
    assert ACTING in seen["hits"][1]
    assert (seen["markup"], seen["acted"]) == (0, 0)
