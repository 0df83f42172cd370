"""Write docs/demo.jpg, README's picture, from what the demo made: slide, and a part of a field.

make demo && python docs/demo_picture.py
"""

from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PICTURES = HERE.parent / "results" / "slides" / "hela" / "pictures"
SIDE_PX = 620


def main() -> None:
    """Both at SIDE_PX high, side by side."""
    slide = Image.open(PICTURES / "overlay.png").convert("RGB")
    field = Image.open(PICTURES / "field_1.jpg").convert("RGB")
    slide = slide.resize((round(slide.width * SIDE_PX / slide.height), SIDE_PX), Image.LANCZOS)
    together = Image.new("RGB", (slide.width + 8 + SIDE_PX, SIDE_PX), "white")
    together.paste(slide, (0, 0))
    together.paste(field.crop((0, 0, SIDE_PX, SIDE_PX)), (slide.width + 8, 0))
    together.save(HERE / "demo.jpg", quality=75, optimize=True)


if __name__ == "__main__":
    main()
