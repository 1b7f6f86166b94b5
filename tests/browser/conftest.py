"""A real Chromium, with the outside world shut off and every complaint of the page noted."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from skynb import workflows

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
INSIDE = ("file", "data", "blob", "about")
HERE = ("127.0.0.1", "localhost")


def _on_path():
    """The browser that is there already."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise FileNotFoundError(f"none of {', '.join(NAMES)} is on the PATH")
    return found


def _from_playwright():
    """Playwright's own build, downloaded once; None is where Playwright looks by itself."""
    _quietly(sys.executable, "-m", "playwright", "install", "chromium")


def _from_debian():
    """Debian's package, where this process may install it."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise PermissionError("apt-get is missing, or this is not root")
    _quietly("apt-get", "update")
    _quietly("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
    return shutil.which("chromium")


def _quietly(*command):
    """Run a command; the first line that speaks of an error is the message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise OSError(next((line for line in lines if "rror" in line), lines[-1]))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium or Chrome, found or installed; where there is none, CI fails."""
    from playwright.sync_api import Error, sync_playwright

    failures = []
    with sync_playwright() as playwright:
        for source in (_on_path, _from_playwright, _from_debian):
            try:
                found = playwright.chromium.launch(executable_path=source(), args=ARGUMENTS)
            except (Error, OSError, subprocess.TimeoutExpired) as error:
                failures.append(f"{source.__name__.strip('_')}: {str(error).strip()[:300]}")
                continue
            yield found
            found.close()
            return
    reason = "no browser could be had; " + "; ".join(failures)
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def page(browser):
    """A page that cannot reach beyond this machine; it must not try, nor report an error."""
    complaints = []

    def guard(route):
        address = urlsplit(route.request.url)
        if address.scheme in INSIDE or address.hostname in HERE:
            route.continue_()
        else:
            complaints.append(f"asked for {route.request.url}")
            route.abort()

    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    context.route("**/*", guard)
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.complaints = complaints
    page.on("console", lambda m: m.type == "error" and complaints.append(f"console: {m.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    yield page
    context.close()
    assert complaints == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Keep what the page showed when a test failed, and what it complained of."""
    report = yield
    if report.when == "call" and report.failed and "page" in item.funcargs:
        folder = Path(os.environ.get("SKYNB_SCREENSHOTS", "runs/browser"))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"failed {item.name}.png"
        item.funcargs["page"].screenshot(path=path)
        complaints = "; ".join(item.funcargs["page"].complaints) or "none"
        report.sections.append(("the page", f"{path}; complaints: {complaints}"))
    return report


@pytest.fixture
def screenshots(tmp_path):
    """The folder for pictures of the browser: SKYNB_SCREENSHOTS, else a temporary one."""
    folder = Path(os.environ.get("SKYNB_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


SPOT = """([name, x, y]) => {
    const documents = [...Bokeh.documents].reverse()
    const model = documents.map((each) => each.get_model_by_name(name)).find((each) => each)
    const view = Bokeh.index.find_one(model)
    const {left, top} = view.el.getBoundingClientRect()
    return [left + view.frame.x_scale.compute(x), top + view.frame.y_scale.compute(y)]
}"""


MARKED = """([figure, name]) => {
    const documents = [...Bokeh.documents].reverse()
    const model = documents.map((each) => each.get_model_by_name(figure)).find((each) => each)
    const {data} = model.renderers.find((each) => each.name === name).data_source
    const columns = data instanceof Map ? data : new Map(Object.entries(data))
    return Object.fromEntries([...columns].map(([name, values]) => [name, [...values]]))
}"""


RAN = """() => {
    if (document.querySelector(".jp-OutputArea-output[data-mime-type*=error]")) return true
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")]
    const texts = prompts.map((prompt) => prompt.textContent).filter((text) => text)
    return texts.length > 0 && texts.every((text) => /\\[\\d+\\]/.test(text))
}"""  # a cell whose source is folded away has an empty prompt


class Lab:
    """A JupyterLab on this machine, and a page of a browser that shows one notebook in it."""

    def __init__(self, address, folder, page):
        self.address, self.folder, self.page = address, folder, page
        self.kernel = None

    def open(self, *sources, name="notebook"):
        """Write a notebook of these cells, open it, run it, and wait until it is done."""
        import nbformat

        nb = nbformat.v4.new_notebook()
        nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nb.cells = [nbformat.v4.new_code_cell(source) for source in sources]
        nbformat.write(nb, self.folder / f"{name}.ipynb")
        self._run(f"{name}.ipynb")

    def lesson(self, name):
        """Open a copy of a tutorial beside its checks, run it, and wait until it is done."""
        source = workflows.find(name)
        (self.folder / "tutorials").mkdir(exist_ok=True)
        for each in (source, source.with_name("lessons.py")):
            shutil.copy(each, self.folder / "tutorials")
        self._run(f"tutorials/{source.name}")

    def answer(self, name, expression, said):
        """Give an exercise an expression as its answer, see what is said to it; return the cell."""
        cell = self.page.locator(".jp-CodeCell").filter(has_text=f"{name} = ").first
        lines = cell.locator(".cm-line").all_inner_texts()
        mine = [
            f"{name} = {expression}" if each.startswith(f"{name} = ") else each for each in lines
        ]
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text("\n".join(mine))
        self.page.keyboard.press("Control+Enter")
        cell.get_by_role("status").get_by_text(said).wait_for()
        return cell

    def _run(self, name):
        self.show(name)
        self._connect(name)
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.wait_for_function(RAN, timeout=300_000)
        self.python("0")
        failed = self.page.locator(".jp-OutputArea-output[data-mime-type*=error]")
        assert failed.count() == 0, failed.first.inner_text()

    def show(self, name):
        """Open a notebook that lies in the folder."""
        self.page.goto(f"{self.address}/lab/tree/{name}?reset")
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for()

    def show_saved_without_a_kernel(self, name):
        """Save what is open, and open a copy of it that finds no kernel."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
        nb = json.loads((self.folder / name).read_text())
        assert nb["cells"][0]["outputs"]
        none = {"name": "none", "display_name": "none", "language": "none"}
        nb["metadata"] = {"kernelspec": none}
        (self.folder / "dead.ipynb").write_text(json.dumps(nb))
        self.show("dead.ipynb")
        self.page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").click()

    def view(self, name):
        """Return the explorer of this name, once it is drawn."""
        found = self.page.locator(f".skynb-view[data-name={name}]").first
        found.locator(".widget-box, .bk-Figure").first.wait_for()
        return found

    def focus(self, element):
        """Give an element the focus, anew where the notebook takes it for the active cell."""
        for _ in range(40):
            element.focus()
            self.page.wait_for_timeout(250)
            if element.evaluate("each => each === document.activeElement"):
                return
        raise AssertionError("the focus does not stay")

    def spot(self, figure, x, y):
        """Return where in the window a bokeh figure, by its name, has a point: (x, y) in pixels."""
        return self.page.evaluate(SPOT, [figure, x, y])

    def marked(self, figure, name):
        """Return the columns that a glyph of a bokeh figure, by their names, shows in the page."""
        return self.page.evaluate(MARKED, [figure, name])

    def python(self, expression):
        """Return the value of an expression in the notebook's kernel: plain data, by JSON.

        While an explorer changes, in another thread, it is waited for.
        """
        source = f"__import__('json').dumps({expression}, default=list)"
        lock = "__import__('skynb.widgets.view').widgets.view.LOCK"
        reply = self.kernel.execute_interactive(
            "", silent=True, store_history=False, timeout=300, output_hook=lambda message: None,
            user_expressions={
                "before": f"{lock}.acquire()", "value": source, "after": f"{lock}.release()"
            },
        )["content"]["user_expressions"]["value"]  # fmt: skip
        assert reply["status"] == "ok", f"{expression}: {reply.get('evalue')}"
        return json.loads(eval(reply["data"]["text/plain"]))

    def until(self, expression, expected, seconds=60):
        """Wait until an expression in the kernel, or a function here, has a value, or fail."""
        read = expression if callable(expression) else lambda: self.python(expression)
        deadline = time.monotonic() + seconds
        while (value := read()) != expected and time.monotonic() < deadline:
            self.page.wait_for_timeout(100)
        assert value == expected, f"{expression} is {value!r}"

    def violations(self, selector=".skynb-view"):
        """Return what axe-core finds serious or critical within our own part of the page."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page, context=selector).response["violations"]
        grave = [each for each in found if each["impact"] in ("serious", "critical")]
        return [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in grave]

    def _connect(self, name):
        from jupyter_client import BlockingKernelClient
        from jupyter_core.paths import jupyter_runtime_dir

        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with closing(urlopen(f"{self.address}/api/sessions")) as answer:
                found = [one for one in json.load(answer) if one["path"] == name]
            if found:
                break
            self.page.wait_for_timeout(200)
        kernel_id = found[0]["kernel"]["id"]
        self.kernel = BlockingKernelClient(
            connection_file=f"{jupyter_runtime_dir()}/kernel-{kernel_id}.json"
        )
        self.kernel.load_connection_file()
        self.kernel.start_channels()
        self.kernel.wait_for_ready(timeout=120)

    def close(self):
        if self.kernel is not None:
            self.kernel.stop_channels()
        with closing(urlopen(f"{self.address}/api/sessions")) as answer:
            for session in json.load(answer):
                url = f"{self.address}/api/sessions/{session['id']}"
                urlopen(Request(url, method="DELETE")).close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address and the folder of a JupyterLab that asks the outside for nothing."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}}  # fmt: skip
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(*quiet.values()))
    whole = folder / "settings" / "@jupyterlab" / "notebook-extension"
    whole.mkdir()
    (whole / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    options = {
        "ServerApp.root_dir": folder,
        "ServerApp.port": port,
        "IdentityProvider.token": "",
        "ServerApp.disable_check_xsrf": True,
        "ServerApp.allow_root": True,
        "ServerApp.open_browser": False,
        "LabApp.extension_manager": "readonly",
        "LabApp.user_settings_dir": folder / "settings",
        "LabApp.workspaces_dir": folder / "workspaces",
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{k}={v}" for k, v in options.items())]
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urlopen(f"{address}/api").close()
                break
            except (URLError, ConnectionError):
                assert process.poll() is None, (folder / "server.log").read_text()[-2000:]
                time.sleep(0.25)
        yield address, folder
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def lab(server, page):
    """A `Lab`: JupyterLab in a page that cannot reach beyond this machine."""
    lab = Lab(*server, page)
    yield lab
    lab.close()
