"""The dashboard notebook in JupyterLab, in a real browser."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason='selenium is not installed: the extra "test" installs it')

from tests.support.lab import CHROMIUM, DRIVER, open_lab, run

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    # Importing JupyterLab takes seconds of each process that collects the tests.
    pytest.mark.skipif(
        not find_spec("jupyterlab"), reason='JupyterLab is not installed: the extra "jupyter" installs it'
    ),
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="no Chromium here: apt-get install chromium chromium-driver"),
]


def keep_screenshot(lab, name, folder):
    """Save a screenshot in the folder ``RXWS_SCREENSHOTS``, or by default in ``folder``."""
    target = Path(os.environ.get("RXWS_SCREENSHOTS") or folder) / name
    lab.driver.get_screenshot_as_file(str(target))
    return target


def test_dashboard_is_live_when_opened_in_jupyterlab(tmp_path):
    """In JupyterLab without a network, the table's rows change, the chart is updated, and the button rotates."""
    with open_lab(ROOT / "notebooks" / "3_dashboard.ipynb", tmp_path, height=2100) as lab:
        lab.hide_first_picture()
        run(lab)
        assert "Error" not in lab.text()

        # The cells have ended, so later drawings happen in the background.
        (charts,) = lab.outputs(1)
        lab.until("lines in the chart", lambda: lab.coloured(charts) > 500)
        drawn = charts.screenshot_as_base64
        lab.until("the chart to move", lambda: charts.screenshot_as_base64 != drawn)
        rows = lab.until("rows", lambda: "trade" in lab.text(2) and lab.text(2))
        lab.until("other rows", lambda: lab.text(2) != rows)

        # The notebook clicks the button once itself.
        assert "rotations" in lab.text(4)
        keep_screenshot(lab, "dashboard.png", tmp_path)
        assert lab.complaints() == []
