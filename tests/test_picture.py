"""The picture of the README shows the numbers of the records, not those of an earlier day."""

from PIL import Image

from tests import load_script
from tricks_lib.lab import gains


def test_picture_shows_the_current_records():
    picture, found = load_script("picture"), gains.gains()
    assert picture.rows(found), "no record to draw"
    with Image.open(picture.FILE) as image:
        assert image.info["Description"] == picture.fingerprint(found), "run: python scripts/picture.py"
