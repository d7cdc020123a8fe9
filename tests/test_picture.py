"""The picture of the README shows the numbers of the records, not those of an earlier day."""

from PIL import Image

from tests import load_script
from tricks_lib.lab.compare import evidence


def test_picture_shows_the_current_records():
    picture, rows = load_script("picture"), evidence.at_a_glance()
    assert rows, "no record to draw"
    with Image.open(picture.FILE) as image:
        assert image.info["Description"] == picture.fingerprint(rows), "run: python scripts/picture.py"
