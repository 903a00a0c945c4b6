"""How things look: colours, tables for a terminal, small pictures, and text that nothing reads as markup."""

from __future__ import annotations

import io

import numpy as np
import pytest
import seaborn
from PIL import Image

from recnb import style


def test_the_palette_is_seaborns_colour_blind_one() -> None:
    assert list(seaborn.color_palette("colorblind")) == style.PALETTE


def test_a_table_for_a_terminal() -> None:
    assert style.aligned([("key", "a", "b"), ("long", "", "1")]) == "key   a  b\nlong     1"


@pytest.mark.parametrize(("text", "shown"), [
    ("www.x.org", "www&#46;x.org"), ("a@b.c", "a&#64;b.c"), ("1. x", "1&#46; x"), ("3.5 of WWW", "3.5 of WWW"),
])  # fmt: skip
def test_addresses_and_numbers_with_a_dot_start_nothing(text: str, shown: str) -> None:
    assert style.escape(text) == shown


def test_a_small_picture_keeps_its_look() -> None:
    clear = np.zeros((10, 40, 4), np.uint8)  # transparent: white on a page
    clear[:, 20:] = 200, 0, 0, 255
    written = io.BytesIO()
    Image.fromarray(clear).save(written, "png")
    for width, size in ((0, (40, 10)), (20, (20, 5)), (99, (40, 10))):
        small = Image.open(io.BytesIO(style.small_png(written.getvalue(), width)))
        assert small.size == size and small.mode == "P"
        colours = small.convert("RGB")
        assert colours.getpixel((0, 0)) == (255, 255, 255) and colours.getpixel((size[0] - 1, 0)) == (200, 0, 0)
