"""The picture of the README shows the numbers of the records, not those of an earlier day."""

import importlib.util
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def test_picture_shows_the_current_records():
    spec = importlib.util.spec_from_file_location("picture", ROOT / "scripts" / "picture.py")
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    assert picture.rows(), "no record to draw"
    with Image.open(picture.FILE) as image:
        assert image.info["Description"] == picture.fingerprint(), "run: python scripts/picture.py"
