"""Make the pictures in docs/ from the main job's report and the browser tests: ``make picture``."""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

N_ROWS = 7  # objects of the class grid to show


def main(report="runs/atlas/atlas.html", screenshots="runs/screenshots", docs="docs"):
    _save(_atlas(report), Path(docs, "atlas.png"))
    for picture in Path(docs).glob("[A-Z]*.png"):  # each explorer's own, by its name
        _save(Image.open(Path(screenshots, picture.name)), picture)


def _atlas(report):
    """Return the map, the confusion matrix and one light curve of each class."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.goto(Path(report).resolve().as_uri())
        page.wait_for_timeout(5000)
        figures = [Image.open(io.BytesIO(f.screenshot())) for f in page.locator(".bk-Figure").all()]
        browser.close()
    square = [figure for figure in figures if figure.height > 400]
    rows = [figure for figure in figures[1:] if figure.height <= 400]
    grid = _stack([_stack(rows[k : k + 3], 0) for k in range(0, 3 * N_ROWS, 3)], 1)
    return _stack([_stack(square[-2:], 1), grid], 0)


def _save(picture, path):
    """Save a picture with 256 colours."""
    picture = picture.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    picture.save(path, optimize=True)


def _stack(pictures, axis):
    """Return pictures side by side (0) or one below the other (1)."""
    sizes = [picture.size for picture in pictures]
    total, widest = sum(s[axis] for s in sizes), max(s[1 - axis] for s in sizes)
    sheet = Image.new("RGB", (total, widest) if axis == 0 else (widest, total), "white")
    position = 0
    for one in pictures:
        sheet.paste(one, (position, 0) if axis == 0 else (0, position))
        position += one.size[axis]
    return sheet


if __name__ == "__main__":
    main(*sys.argv[1:])
