"""The files about the project: they name what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import gossipmonger

ROOT = Path(__file__).parent.parent
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def workflow(name: str) -> Any:
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())


def test_the_matrix_has_every_python_that_the_package_is_for() -> None:
    versions = re.findall(r"Programming Language :: Python :: (3\.\d+)", (ROOT / "setup.cfg").read_text())
    assert workflow("tests")["jobs"]["tests"]["strategy"]["matrix"]["python"] == versions


def test_workflows_call_targets_that_there_are() -> None:
    searches = workflow("nightly")["jobs"]["searches"]["strategy"]["matrix"]["search"]
    assert {search.split()[0] for search in searches} <= TARGETS
    for name in ("tests", "nightly"):
        for job in workflow(name)["jobs"].values():
            for step in job["steps"]:
                for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", "")):
                    assert target in TARGETS
                if step.get("run", "").startswith("."):
                    assert os.access(ROOT / step["run"], os.X_OK)


def test_the_citation_names_this_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == gossipmonger.__version__


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with what a release looks at."""
    for name in ("CHANGELOG.md", "CITATION.cff", ".ci/release", "gossipmonger/_version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [Unreleased]\n\n## [{gossipmonger.__version__}] - today\n\n* A.\n"
    )
    git(tmp_path, "init")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--message", "A change")


def check(root: Path) -> tuple[int, str]:
    done = subprocess.run([root / ".ci/release", "--check"], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


needs_bash = pytest.mark.skipif(not (shutil.which("bash") and shutil.which("git")), reason="needs bash and git")


@needs_bash
def test_a_release_takes_a_clean_tree_whose_files_agree(checkout: Path) -> None:
    assert check(checkout) == (0, f"version {gossipmonger.__version__} is ready to be tested, built and tagged\n")


@needs_bash
@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("CHANGELOG.md", f"## [{gossipmonger.__version__}]", "## [0.0.1]", "has no section"),
        ("CHANGELOG.md", "## [Unreleased]\n", "## [Unreleased]\n\n* B.\n", "has changes under Unreleased"),
        ("CITATION.cff", f"version: {gossipmonger.__version__}", "version: 0.0.1", "names another version"),
    ],
)
def test_a_release_says_what_does_not_agree(checkout: Path, name: str, old: str, new: str, words: str) -> None:
    text = (checkout / name).read_text()
    (checkout / name).write_text(text.replace(old, new))
    status, said = check(checkout)
    assert status == 1
    assert "are not committed" in said
    commit(checkout)
    status, said = check(checkout)
    assert status == 1
    assert words in said


@needs_bash
def test_a_version_is_released_once(checkout: Path) -> None:
    git(checkout, "tag", f"v{gossipmonger.__version__}")
    status, said = check(checkout)
    assert status == 1
    assert "there is a tag" in said
