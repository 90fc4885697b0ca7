"""Runs JupyterLab in headless Chromium, without a network and with its own kernel.

``python -m tests.support.lab`` takes the screenshots of the README and the notebooks again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).resolve().parents[2]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

START_TIMEOUT = 60.0
"""Maximum duration in seconds of starting JupyterLab and the browser."""

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Render all cells, including those that are not visible.
    "notebook-extension/tracker": {"windowingMode": "none"},
}

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

# JupyterLab ignores a command to run cells before the kernel is ready.
KERNEL_READY = """
const session = window.jupyterapp.shell.currentWidget?.sessionContext;
return !!session?.isReady && session.session?.kernel?.connectionStatus === "connected";
"""

# Counts strongly coloured pixels. The lines of a chart are strongly coloured, its frame is not.
COLOURED = """
const [picture, done] = [new Image(), arguments[1]];
picture.onload = () => {
  const canvas = new OffscreenCanvas(picture.width, picture.height), context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, picture.width, picture.height).data;
  let coloured = 0;
  for (let i = 0; i < pixels.length; i += 4) {
    const [r, g, b] = pixels.slice(i, i + 3);
    if (Math.max(r, g, b) - Math.min(r, g, b) > 100) coloured++;
  }
  done(coloured);
};
picture.src = "data:image/png;base64," + arguments[0];
"""


class Lab:
    """A notebook that is open in JupyterLab in a browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def command(self, name: str) -> None:
        """Execute the command of a menu entry."""
        self.driver.execute_script("window.jupyterapp.commands.execute(arguments[0])", name)

    def until(self, what: str, condition: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Wait until a condition is true; otherwise fail with its name."""
        deadline = time.monotonic() + timeout
        while not (seen := condition()):
            assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s; {self.prompts()} {self.text()!r}"
            time.sleep(0.1)
        return seen

    def outputs(self, cell: int) -> list[Any]:
        """Return the outputs of the code cell with this index among the code cells."""
        return self.driver.execute_script(
            "return [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')][arguments[0]]"
            ".querySelectorAll('.jp-OutputArea-output')",
            cell,
        )

    def text(self, cell: int | None = None) -> str:
        """Return the text of the outputs of one code cell or of all."""
        scope = "document" if cell is None else f"[...document.querySelectorAll('.jp-Notebook .jp-CodeCell')][{cell}]"
        script = f"return [...{scope}.querySelectorAll('.jp-OutputArea-output')].map(each => each.innerText).join('|')"
        return self.driver.execute_script(script)

    def prompts(self) -> list[str]:
        """Return the prompt of each code cell: its number, ``*`` while it runs or waits, or nothing."""
        texts = self.driver.execute_script(
            "return [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(e => e.innerText)"
        )
        return [text.strip("[]:\n ") for text in texts]

    def run_all(self) -> None:
        """Run all cells, and wait until they have ended."""

        def begins() -> bool:
            # Try again, because a notebook that is still loading ignores the command without an error.
            self.command("notebook:run-all-cells")
            time.sleep(1.0)
            return any(self.prompts())

        self.until("the first cell", begins)
        self.until("all cells to be run", lambda: all(map(str.isdigit, self.prompts())), 60.0)

    def coloured(self, element: Any) -> int:
        """Return the number of strongly coloured pixels of an element."""
        return self.driver.execute_async_script(COLOURED, element.screenshot_as_base64)

    def hide_first_picture(self) -> None:
        """Hide the screenshot that a notebook shows of itself."""
        self.driver.execute_script("document.querySelector('.jp-MarkdownOutput img').style.display = 'none'")

    def save(self, file: Path, bottom: int) -> None:
        """Save a screenshot of the part above ``bottom``, which is in pixels."""
        clip = {"x": 0, "y": 0, "width": self.driver.execute_script("return innerWidth"), "height": bottom, "scale": 1}
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
        file.write_bytes(base64.b64decode(picture["data"]))

    def complaints(self) -> list[str]:
        """Return the errors in the browser's console."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextmanager
def open_lab(notebook: Path, folder: Path, *, width: int = 1280, height: int = 2600) -> Iterator[Lab]:
    """Open a copy of ``notebook`` in JupyterLab. All its files are in ``folder``."""
    # Importing nbformat takes seconds of each process that collects the tests.
    import nbformat

    fresh = nbformat.read(notebook, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            # Remove the stored outputs, so that all visible outputs are those of this run.
            cell.outputs, cell.execution_count = [], None
    nbformat.write(fresh, folder / notebook.name)
    shutil.copytree(notebook.parent / "images", folder / "images")
    for name, values in SETTINGS.items():
        file = folder / ".settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / ".settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / ".config"),
        "JUPYTER_DATA_DIR": str(folder / ".data"),
        "JUPYTER_RUNTIME_DIR": str(folder / ".runtime"),
        "IPYTHONDIR": str(folder / ".ipython"),
    }
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": "0",
        "ServerApp.open_browser": "False",
        "ServerApp.root_dir": str(folder),
        "IdentityProvider.token": "",
        "LabApp.expose_app_in_browser": "True",
        "LabApp.extension_manager": "readonly",
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--allow-root",
        *(f"--{key}={value}" for key, value in options.items()),
    ]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = _until_up(folder / ".runtime", server)
            with _browser(folder, width, height) as driver:
                driver.get(f"{url}lab/tree/{notebook.name}?reset")
                lab = Lab(driver)
                ready = "return !!window.jupyterapp && !!document.querySelector('.jp-Notebook .jp-CodeCell')"
                lab.until("the notebook", lambda: driver.execute_script(ready), START_TIMEOUT)
                lab.until("the kernel", lambda: driver.execute_script(KERNEL_READY), START_TIMEOUT)
                yield lab
        finally:
            server.terminate()
            server.wait(30)


def _until_up(runtime: Path, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and server.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            # The file exists before it is complete, and before the port is open.
            with contextlib.suppress(requests.ConnectionError, json.JSONDecodeError):
                url = json.loads(file.read_text())["url"]
                if requests.get(f"{url}api/status", timeout=10).ok:
                    return str(url)
        time.sleep(0.1)
    raise AssertionError("JupyterLab did not start")


@contextmanager
def _browser(folder: Path, width: int, height: int) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (*ARGUMENTS, f"--window-size={width},{height}", f"--user-data-dir={folder / '.browser'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def main() -> None:
    """Take the screenshots of the README and the notebooks."""
    notebooks = ROOT / "notebooks"
    with TemporaryDirectory() as folder, open_lab(notebooks / "3_dashboard.ipynb", Path(folder), height=2600) as lab:
        run(lab)
        lab.hide_first_picture()
        time.sleep(8)
        outputs = [*lab.outputs(1), *lab.outputs(2)]
        bottom = outputs[-1].location["y"] + outputs[-1].size["height"] + 20
        lab.save(notebooks / "images" / "dashboard.png", bottom)
    name = "4_rotation_cuts_gaps.ipynb"
    with TemporaryDirectory() as folder, open_lab(notebooks / name, Path(folder), width=1100) as lab:
        run(lab)
        (chart,) = lab.outputs(1)
        chart.screenshot(str(notebooks / "images" / "rotation_and_cut.png"))


def run(lab: Lab) -> None:
    """Run all cells in a window that is large enough for them."""
    lab.command("application:toggle-left-area")
    lab.run_all()
    lab.driver.execute_script("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")


if __name__ == "__main__":
    main()
