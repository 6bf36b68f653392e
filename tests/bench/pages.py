"""The home page against that of another checkout: bytes, and the time until it can be used, in Chromium.

    git worktree add --detach /tmp/before REVISION
    python -m tests.bench.pages /tmp/before

Both services run at once, and the pages are opened in turn, each with an empty cache: as they are, and as a
slow phone on a slow network would see them. A page can be used when its scripts have run (`DOMContentLoaded`,
which waits for them) and no long task is left. Prints medians, and ours over theirs.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.support.browser import chromium, chromium_path, visitor
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROUNDS: Final = 12
SLOW_NETWORK: Final = {
    "offline": False,
    "latency": 150,
    "downloadThroughput": 200_000,
    "uploadThroughput": 90_000,
}
SLOW_CPU: Final = 4

_FACTS: Final = """() => new Promise(resolve => {
    const long = [];
    const observer = new PerformanceObserver(list => long.push(...list.getEntries()));
    observer.observe({ type: "longtask", buffered: true });
    setTimeout(() => {
        const [page] = performance.getEntriesByType("navigation");
        const loaded = [page, ...performance.getEntriesByType("resource")];
        const sum = name => loaded.reduce((total, entry) => total + entry[name], 0);
        const blocked = long.map(task => task.startTime + task.duration);
        resolve({ "ms": Math.max(page.domContentLoadedEventEnd, ...blocked),
            "bytes sent": sum("encodedBodySize"), "bytes unpacked": sum("decodedBodySize") });
    }, 300);
})"""


def open_once(browser: Browser, url: str, *, slow: bool) -> dict[str, float]:
    """Open the page with an empty cache, and return its figures."""
    with visitor(browser, url) as one:
        if slow:
            session = one.context.new_cdp_session(one.page)
            session.send("Network.enable")
            session.send("Network.emulateNetworkConditions", SLOW_NETWORK)
            session.send("Emulation.setCPUThrottlingRate", {"rate": SLOW_CPU})
        one.open("/").wait_for_load_state("networkidle")
        facts: dict[str, float] = one.page.evaluate(_FACTS)
        return facts


def main() -> None:
    """Serve both checkouts and compare their home pages."""
    before, path = Path(sys.argv[1]).resolve(), chromium_path()
    if path is None:
        raise SystemExit("There is no Chromium here; install the package chromium-headless-shell.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {}
        for name, checkout in (("before", before), ("now", Path(__file__).parents[2])):
            service = ServerProcess(
                folder / name, extra_environment={"PYTHONPATH": str(checkout)}, python=Path(sys.executable)
            )
            urls[name] = stack.enter_context(service).url
        browser = stack.enter_context(chromium(path))
        for slow in (False, True):
            found: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
            for round_number in range(ROUNDS + 1):
                for name, url in urls.items():
                    facts = open_once(browser, url, slow=slow)
                    if round_number:  # the first visit warms the service up
                        found[name].append(facts)
            sys.stdout.write("slow phone, slow network\n" if slow else "this machine\n")
            for figure in found["now"][0]:
                old, new = (median(facts[figure] for facts in found[name]) for name in ("before", "now"))
                sys.stdout.write(f"  {figure:15} before {old:9.0f}  now {new:9.0f}  ratio {new / old:.2f}\n")


if __name__ == "__main__":
    main()
