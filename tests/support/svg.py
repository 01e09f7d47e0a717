"""Pictures in SVG: what all charts of the documents share."""

from html import escape

_INK, _INK_IN_THE_DARK = "#24292f", "#e6edf3"


class Picture:
    """A title and what is drawn below it.

    Args:
        size: width and height.
        style: more lines of CSS.
        font: the size of the text.
    """

    def __init__(self, title: str, size: tuple[int, int], style: list[str], font: int = 13) -> None:
        width, height = size
        place = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        self._lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {place} role="img">',
            f"  <title>{title}</title>",
            "  <style>",
            f"    text {{ font: {font}px system-ui, sans-serif; fill: {_INK} }}",
            "    .title { font-weight: 600; font-size: 15px }",
            *(f"    {line}" for line in style),
            f"    @media (prefers-color-scheme: dark) {{ text {{ fill: {_INK_IN_THE_DARK} }} }}",
            "  </style>",
            f'  <text class="title" x="8" y="22">{title}</text>',
        ]

    def text(self, x: object, y: object, text: str, anchor: str = "") -> None:
        """`anchor`: which part of the text is at `x`: "middle" or "end"; else its start."""
        anchored = f' text-anchor="{anchor}"' if anchor else ""
        self._lines.append(f'  <text x="{x}" y="{y}"{anchored}>{escape(text)}</text>')

    def shape(self, name: str, **attributes: object) -> None:
        """An element without text. The attribute `class_` is written as `class`."""
        words = "".join(f' {key.rstrip("_")}="{value}"' for key, value in attributes.items())
        self._lines.append(f"  <{name}{words}/>")

    def __str__(self) -> str:
        return "\n".join([*self._lines, "</svg>", ""])
