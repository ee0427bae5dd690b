"""The page of a corpus in a real browser: nothing sticks out on a phone, the search finds, and no name can act.

A frame of the wanted width holds the page, and a script beside it does what a reader would and writes down what it saw.
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

ACTING = '"><img src=x onerror="parent.acted=1">'  # as a name, where it is put into the page as markup
HARNESS = """<!doctype html><iframe src="page.html" style="border:0;width:{width}px;height:800px"></iframe><pre></pre>
<script>
document.querySelector("iframe").onload = (event) => {{
  const page = event.target.contentDocument, seen = {{}};
  const get = (id) => page.getElementById(id);
  const find = (words) => {{
    get("image-search").value = words;
    get("image-search").dispatchEvent(new Event("input"));
    return [get("image-count").textContent, get("image-found").textContent];
  }};
  const shown = (sample) => [...sample.querySelectorAll(".cell")].filter((cell) => cell.offsetWidth).length;
  seen.wide = page.documentElement.scrollWidth;
  seen.found = find({words});
  seen.links = [...get("image-found").querySelectorAll("a")].map((a) => !!get(a.getAttribute("href").slice(1)));
  seen.markup = get("image-found").querySelectorAll("img, script").length;
  seen.nothing = find("no such image");
  const sample = page.querySelector(".sample");
  const cell = sample.querySelector(".cell img");
  seen.pixels = [cell.naturalWidth, cell.getBoundingClientRect().width];
  seen.cells = [shown(sample)];
  sample.querySelector("input[value='2']").click();
  seen.cells.push(shown(sample), sample.querySelector(".cell-2").offsetWidth > 0);
  seen.confusion = [...page.querySelectorAll("input, [tabindex]")].every(
    (one) => one.labels?.length || one.getAttribute("aria-label"));
  seen.acted = window.acted ?? 0;
  document.querySelector("pre").textContent = JSON.stringify(seen);
}};
</script>"""


def browse(folder, page, *, width=390, words="wren"):
    """What the harness saw of `page` in a frame `width` px wide, after a search for `words`."""
    (folder / "page.html").write_text(page)
    (folder / "harness.html").write_text(HARNESS.format(width=width, words=json.dumps(words)))
    flags = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--allow-file-access-from-files", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--virtual-time-budget=5000",
        f"--user-data-dir={folder}/profile", "--window-size=1500,900",
    )  # fmt: skip
    address = (folder / "harness.html").as_uri()
    done = subprocess.run([BROWSER, *flags, "--dump-dom", address], capture_output=True, text=True, timeout=120)
    found = re.search(r"<pre>(\{.*?\})</pre>", done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", [390, 1440])
def test_a_reader_finds_and_compares_and_nothing_sticks_out(tmp_path, width):
    page = page_of(fake_corpus(tmp_path, out=(("jpeg", 1),)), side_px=256)
    seen = browse(tmp_path, page, width=width)
    assert seen["wide"] <= width
    assert seen["found"][0] == "1 of 2 images."
    assert "wren-1 (train)jp2k: samples" in seen["found"][1]
    assert "1 (flagged)" in seen["found"][1]
    assert seen["links"]
    assert all(seen["links"])
    assert seen["nothing"] == ["0 of 2 images.", ""]
    assert seen["pixels"] == [256, 256]
    assert seen["cells"] == [5, 1, True]  # side by side, and then only the generated one
    assert seen["named"]


def test_no_name_becomes_markup(tmp_path):
    corpus = fake_corpus(tmp_path, distortions=("jpeg", ACTING), batches=1, out=((ACTING, 0),), licence=NASTY)
    seen = browse(tmp_path, page_of(corpus, images=(NASTY, ACTING)), words=ACTING)
    assert seen["found"][0] == "1 of 2 images."
    assert ACTING in seen["found"][1]
    assert (seen["markup"], seen["acted"]) == (0, 0)
