"""The committed notebooks as pages in a real browser: every figure is there, fits, and is told."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import nbconvert
import nbformat
import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
# What the page says of itself, once everything is loaded, in an element that it adds.
ASK = """<script>
addEventListener("load", () => {
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = JSON.stringify({
    images: [...document.images].map((image) => ({
      width: image.naturalWidth,
      shown: image.getBoundingClientRect().width,
      alt: image.alt,
    })),
    wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    headings: [...document.querySelectorAll("h1")].map((h) => h.textContent),
  });
  document.body.append(told);
});
</script>"""


def told(page: Path, width: int) -> dict:
    """What a page tells in a window of this width."""
    given = ("--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900")
    dump = ("--virtual-time-budget=10000", "--dump-dom", page.as_uri())
    shown = subprocess.run(
        [BROWSER, *given, *dump], capture_output=True, text=True, timeout=180, check=True
    ).stdout
    found = re.search('<pre id="told">(.*?)</pre>', shown, re.DOTALL).group(1)
    return json.loads(found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def figures(notebook) -> int:
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_page(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    html, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    page = tmp_path / "page.html"
    page.write_text(html.replace("</body>", f"{ASK}</body>"))
    for width in (1280, 700):
        seen = told(page, width)
        images = seen["images"]
        assert len(images) >= figures(notebook) > 0
        for image in images:
            assert image["width"] > 200, "an image that was not loaded has no width"
            assert image["shown"] <= width, image["alt"]
            assert len(image["alt"]) > 20, "what is shown, for those who do not see it"
        assert seen["wider"] <= 0, f"the page is {seen['wider']} pixels wider than {width}"
    assert len(seen["headings"]) == 1


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_a_bad_page_is_seen(tmp_path):
    page = tmp_path / "bad.html"
    wide = '<div style="width: 2000px">wide</div>'
    page.write_text(f'<html><body><img src="gone.png" alt="">{wide}{ASK}</body></html>')
    seen = told(page, 1280)
    assert seen["images"][0]["width"] == 0 and seen["images"][0]["alt"] == ""
    assert seen["wider"] > 500 and seen["headings"] == []
