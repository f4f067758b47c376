"""The settings that the documentation shows: pasted into a project, they pass its checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import ownproject

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"

BEFORE = """
from pathlib import Path
from tests import ownproject
BASE_DIR = Path(__file__).parent
SECRET_KEY = "x"
USE_TZ = True
DEBUG = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles",
    "django_celery_beat", "replicator",
]
MEDIA_ROOT = BASE_DIR / "media"
MEDIA_URL = "/media/"
STATIC_URL = "/static/"
ROOT_URLCONF = "own_urls"
REPLICATOR = {}
"""

CHECK = """
import celery
celery.Celery("own").set_default()
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "check", "--fail-level", "WARNING"])
"""


def _blocks(page: str) -> list[str]:
    """Those of a page that say that they are of settings.py."""
    found = re.findall(r"```python\n# settings\.py.*?\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return [block for block in found if "…" not in block]


def _urls(page: str) -> str:
    """What the first block of a page that says so adds to urls.py."""
    found = re.search(r"```python\n# urls\.py\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    lines = found[1].splitlines() if found else []
    return "\n".join(["urlpatterns = []", *(line for line in lines if line != "urlpatterns = [...]"), ""])


PAGES = [(page.name, number) for page in sorted(DOCS.glob("*.md")) for number in range(len(_blocks(page.name)))]


@pytest.mark.parametrize(("page", "number"), PAGES)
def test_the_settings_of_a_page_pass_the_checks(tmp_path: Path, page: str, number: int) -> None:
    """What is shown is what works: no unknown key, no target that nobody uses."""
    settings_text = BEFORE + _blocks(page)[number]
    (tmp_path / "own_urls.py").write_text(_urls(page))
    done = ownproject.run(tmp_path, settings_text, CHECK)
    assert done.returncode == 0, done.stderr + done.stdout


def test_there_are_settings_to_look_at() -> None:
    """The pattern that finds them still does."""
    assert len(PAGES) >= 2


def _logged() -> dict[str, str]:
    """Message → level, of all that the package logs by a fixed message."""
    text = "".join(path.read_text() for path in sorted((CHECKOUT / "replicator").rglob("*.py")))
    return {message: level for level, message in re.findall(r'\blog\.(\w+)\(\s*"([^"]+)"', text)}


def test_what_is_said_of_logs_is_so() -> None:
    """Who filters by level must not miss a line."""
    logged = _logged()
    page = (DOCS / "operate.md").read_text()
    rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \| ([a-z, ]+) \| ", page[page.index("## Logs") :], re.MULTILINE)
    told: dict[str, str] = {}
    for messages, words in rows:
        names, levels = re.findall(r"`([^`]+)`", messages), words.split(", ")
        told |= dict(zip(names, levels if len(levels) > 1 else levels * len(names), strict=True))
    known = told.keys() & logged.keys()
    assert len(known) >= 8, told
    assert {message: told[message] for message in known} == {message: logged[message] for message in known}
