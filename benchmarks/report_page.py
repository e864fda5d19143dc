"""How large the page of a file with 200,000 tensors is, and how long Chromium takes to show it.

    uv run --with pyqt6-webengine python benchmarks/report_page.py

Chromium is Qt's, which PyPI has. The tree is that of a state dict of 2,000 layers. The page's
script must have drawn it, or the benchmark fails.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import archfind
from archfind.frozen import replace
from archfind.report.page import page
from archfind.types import Storage, TensorSpec

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", "--no-sandbox --disable-gpu")
SECONDS, BYTES = 2.0, 5_000_000
DRAWN = "document.querySelectorAll('#tree > *').length"


def written(folder: Path) -> Path:
    """The page of a network with 200,000 tensors in 2,000 layers."""
    small = archfind.guess(Path(archfind.__file__).parent / "demo" / "001.pth")
    specs = [TensorSpec("float16", (4, 4 << n), Storage("", "", -1, 0)) for n in range(3)]
    drawn = random.Random(0)  # no two layers alike, which would stand in the page once
    index = {
        f"model.layers.{layer}.mod{n % 10}.sub{n}.weight": drawn.choice(specs)
        for layer in range(2000)
        for n in range(100)
    }
    path = folder / "page.html"
    path.write_text(
        page(replace(small, canonical=replace(small.canonical, index=index)), lambda key: "")
    )
    return path


def shown(path: Path) -> tuple[float, int]:
    """Seconds until Chromium has loaded the page, and what then stands at the tree's top."""
    from PyQt6.QtCore import QTimer, QUrl
    from PyQt6.QtWebEngineWidgets import QWebEngineView
    from PyQt6.QtWidgets import QApplication

    application, view = QApplication(sys.argv[:1]), QWebEngineView()
    found: list[float] = []

    def loaded(_: bool) -> None:
        found.append(time.perf_counter() - start)
        view.page().runJavaScript(DRAWN, drawn)

    def drawn(count: int) -> None:
        found.append(count)
        application.quit()

    view.loadFinished.connect(loaded)
    start = time.perf_counter()
    view.load(QUrl.fromLocalFile(str(path)))
    view.show()
    QTimer.singleShot(60_000, application.quit)
    application.exec()
    return found[0], int(found[1])


def main() -> int:
    """One line; the exit code is 1 where the page is too large or too slow."""
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder))
        size = path.stat().st_size
        seconds, count = shown(path)
        assert count > 0, "the tree wasn't drawn"
        print(f"200,000 tensors: {size:,} bytes, shown in {seconds:.2f} s, {count} at the top")
        return int(size > BYTES or seconds > SECONDS)


if __name__ == "__main__":
    sys.exit(main())
