"""The files that browsers get: vendored ones are what was vendored, and each address names one content."""

import hashlib
import re
from pathlib import Path

import keyturn.web

FOLDER = Path(keyturn.web.__file__).parent / "static"


def test_vendored_files_are_unchanged():
    """As CHECKSUMS says, with their licence beside them."""
    lines = (FOLDER / "CHECKSUMS").read_text().splitlines()
    assert {line.split()[1] for line in lines} == {"htmx.min.js", "htmx.LICENSE"}
    for line in lines:
        digest, name = line.split()
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
    assert "Zero-Clause BSD" in (FOLDER / "htmx.LICENSE").read_text()


def test_an_address_names_one_content(browser, person):
    """So a browser may keep it for ever; what is not on the list is not there."""
    it = browser(person())
    found = re.findall(r'(?:src|href)="(/static/[^"]+)"', it.get("/").text)
    assert len(set(found)) >= 4
    for path in set(found):
        name, digest = re.fullmatch(r"/static/([\w.]+)\?(\w{12})", path).groups()
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest().startswith(digest)
        assert it.get(path).status_code == 200
    for path in ("/static/README", "/static/../site.py", "/static/%2e%2e/site.py", "/static/CHECKSUMS"):
        assert it.get(path).status_code == 404


def test_nothing_is_loaded_from_elsewhere():
    """No address of another host in templates, styles or our script."""
    own = [*FOLDER.glob("keyturn.*"), *FOLDER.parent.glob("templates/*.html")]
    assert len(own) > 15
    for path in own:
        assert not re.search(r"(?:src|href|url\()\s*=?\s*[\"']?https?://", path.read_text()), path
