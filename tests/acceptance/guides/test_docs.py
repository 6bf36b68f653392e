"""What holds for every page of the docs: commands are run or excused, links lead somewhere, none is old."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt

from stenobird.config import Settings
from tests.support.guides import blocks, matches, untagged
from tools.reference import PAGES
from tools.reference.__main__ import main as reference
from tools.reference.guides import SOURCES, render

if TYPE_CHECKING:
    from pathlib import Path

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def pages(docs: Path) -> list[Path]:
    """Every page that a reader may open."""
    return [docs.parent / "README.md", docs.parent / "CONTRIBUTING.md", *sorted(docs.rglob("*.md"))]


def test_every_command_is_run_by_a_test_or_says_why_not(pages: list[Path]) -> None:
    assert [problem for page in pages for problem in untagged(page)] == []


def test_what_is_to_be_run_is_run_by_some_test(pages: list[Path], docs: Path) -> None:
    tests = [test.read_text() for test in (docs.parent / "tests").rglob("test_*.py")]
    forgotten = [
        page.name
        for page in pages
        if any(block.runs for block in blocks(page)) and not any(f'"{page.name}"' in test for test in tests)
    ]

    assert forgotten == []


def test_no_block_hides_behind_its_indentation(pages: list[Path]) -> None:
    indented = [
        f"{page.name}: {token.content[:40]}"
        for page in pages
        for token in MarkdownIt("commonmark").parse(page.read_text())
        if token.type == "code_block"
    ]

    assert indented == []


def test_a_command_that_says_nothing_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\nls\n```\n\n  ```sh manual: no\n  ls\n  ```\n\n```\nx\n```\n\n```sh run\nls\n```\n"
    )

    assert [problem.partition(":")[2] for problem in untagged(page)] == [
        "1: say `sh run` or `sh manual: why`",
        "5: a reason has at least three words",
        "9: a fence without a language",
    ]
    assert [block.text for block in blocks(page)] == ["ls\n", "ls\n", "x\n", "ls\n"]


def test_outputs_are_compared_but_for_what_an_ellipsis_leaves_open() -> None:
    assert matches("id: …\nevent: done\n", "\nid: 42\nevent: done")
    assert not matches("id: …\nevent: done", "id: 42\nevent: status")
    assert not matches("event: done", "id: 42\nevent: done")


def test_links_lead_to_files_and_headings_that_exist(pages: list[Path]) -> None:
    dead = []
    for page in pages:
        for target in LINK.findall(FENCED.sub("", page.read_text())):
            path, _, anchor = target.partition("#")
            if "://" in path or path.startswith(("/", "mailto:")):
                continue
            place = (page.parent / path).resolve() if path else page
            if not place.exists() or (anchor and anchor not in anchors(place)):
                dead.append(f"{page.name}: {target}")

    assert dead == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_lists_every_guide(docs: Path) -> None:
    listed = {(docs / target).resolve() for target in LINK.findall((docs / "README.md").read_text())}
    there = {
        page.resolve()
        for folder in ("how-to", "reference", "explanation")
        for page in (docs / folder).glob("*.md")
    }

    assert {page.name for page in there - listed} == set()


def test_reference_and_web_guides_are_what_the_code_says(docs: Path) -> None:
    result = CliRunner().invoke(reference, ["--docs", str(docs), "--check"])

    assert result.exit_code == 0, result.output


def test_a_page_that_differs_is_noticed_and_written_anew(docs: Path, tmp_path: Path) -> None:
    for name in PAGES:
        (tmp_path / "reference").mkdir(exist_ok=True)
        (tmp_path / "reference" / f"{name}.md").write_text((docs / "reference" / f"{name}.md").read_text())
    stale = tmp_path / "reference" / "errors.md"
    stale.write_text(stale.read_text() + "\nAnd more.\n")

    result = CliRunner().invoke(reference, ["--docs", str(tmp_path), "--check"])

    assert result.exit_code == 1
    assert str(stale) in result.output
    assert "settings.md" not in result.output


def test_every_setting_is_in_the_reference_with_a_meaning(docs: Path) -> None:
    page = (docs / "reference" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| `STENOBIRD_(\w+)` \|.*\| (.*) \|$", page, re.MULTILINE))

    assert {name.lower() for name in rows} == set(Settings.model_fields)
    assert all(len(meaning) > 10 for meaning in rows.values())


def test_settings_and_commands_that_guides_name_exist(pages: list[Path], docs: Path) -> None:
    settings = {f"STENOBIRD_{name.upper()}" for name in Settings.model_fields}
    foreign = {"STENOBIRD_API_URL", "STENOBIRD_API_KEY", "STENOBIRD_TESTS_NO_SKIP"}
    commands = set(
        re.findall(r"^#+ stenobird (.*)$", (docs / "reference" / "cli.md").read_text(), re.MULTILINE)
    )
    unknown = []
    for page in pages:
        source = page.read_text()
        names = set(re.findall(r"\bSTENOBIRD_[A-Z_]*[A-Z]\b", source)) - settings - foreign
        runs = re.findall(r"`stenobird ([a-z]+)", source)
        unknown += [f"{page.name}: {name}" for name in names]
        unknown += [f"{page.name}: stenobird {name}" for name in runs if name not in commands]

    assert unknown == []


def test_a_guide_becomes_a_page_without_what_is_for_operators() -> None:
    guide = render(
        "# Title\n\nFirst *words* here. Then more.\n\n<!-- operators -->\nsecret\n<!-- /operators -->\n"
        "<!-- web\nFor the web: [prices](/pricing).\n-->\n<!-- a note -->\n\n## A <b>heading</b>\n\n"
        "```sh run\necho '<b>'\n```\n\n| a | b |\n|---|---|\n| `x` | [e](reference/errors.md#errors) |\n\n"
        "```json output\n{}\n```\n\n[host](how-to/self-host.md) <script>alert(1)</script>\n",
        "quickstart.md",
    )

    assert (guide.title, guide.summary) == ("Title", "First words here.")
    assert "secret" not in guide.body
    assert "a note" not in guide.body
    assert 'For the web: <a href="/pricing">prices</a>.' in guide.body
    assert (
        '<pre tabindex="0" aria-label="Commands"><code>echo &#x27;&lt;b&gt;&#x27;\n</code></pre>'
        in guide.body
    )
    assert '<pre class="output" tabindex="0" aria-label="Output"><code>{}\n</code></pre>' in guide.body
    assert '<h2 id="a-b-heading-b">A &lt;b&gt;heading&lt;/b&gt;</h2>' in guide.body
    assert '<td><a href="/docs/errors#errors">e</a></td>' in guide.body
    assert "<p>host &lt;script&gt;" in guide.body


def test_guides_for_users_hold_nothing_that_only_operators_need(docs: Path) -> None:
    folder = docs.parent / "stenobird" / "web" / "site" / "guides"
    pages = {path.name: path.read_text() for path in folder.glob("*.html")}

    assert {f"{name}.html" for name in SOURCES} == set(pages)
    for name, page in pages.items():
        names = set(re.findall(r"STENOBIRD_[A-Z_]+", page))
        assert names <= {"STENOBIRD_API_KEY", "STENOBIRD_API_URL"}, name
        for word in ("make serve", ".venv/", "stenobird keys", "systemd", ".md"):
            assert word not in page.replace("docs/how-to/stripe.md", "").replace("SKILL.md", ""), (name, word)


DECISION = re.compile(
    r"# (\d{4}) [^\n]+\n\n"
    r"\* Date: \d{4}-\d\d-\d\d\n"
    r"\* Status: (?:accepted|superseded by \[\d{4}\]\([^\n]+\))\n"
    r"\* Code: [^#]+\n\* Tests: [^#]+\n\n"
    r"## Context\n.+\n## Decision\n.+\n## Rejected alternatives\n.+\n## Consequences\n.+",
    re.DOTALL,
)
PAGE_LINES = 45


def test_each_decision_has_a_date_a_status_alternatives_and_code_that_exists(docs: Path) -> None:
    records = sorted((docs / "decisions").glob("*.md"))
    assert len(records) > 20
    assert len({record.name[:4] for record in records}) == len(records), "two records have one number"
    for record in records:
        source = record.read_text()
        form = DECISION.fullmatch(source)
        assert form is not None, f"{record.name} lacks a part, or has it elsewhere"
        assert record.name.startswith(form[1])
        assert len(source.splitlines()) <= PAGE_LINES, record.name
        named = re.findall(r"`((?:stenobird|tests|tools)/[^`]+)`", source)
        assert named, record.name
        assert [path for path in named if not (docs.parent / path).exists()] == [], record.name


def test_the_architecture_page_names_every_package_and_only_files_that_exist(docs: Path) -> None:
    package = docs.parent / "stenobird"
    table = (docs / "ARCHITECTURE.md").read_text().partition("| path below `stenobird/` |")[2]
    listed = {
        path
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for path in re.findall(r"`([^`]+)`", row)
    }
    there = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    there |= {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}

    assert {path for path in listed if not (package / path).exists()} == set()
    assert there - listed == set()
