# SPDX-License-Identifier: Apache-2.0
"""What the plots are made of, as lines of SVG."""
import html


def text(x, y, words, anchor="middle", size=11, colour="#333", turned=0):
    place = f' transform="rotate({turned:.1f} {x:.0f} {y:.0f})"' if turned else ""
    return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{place}>'
            f'{html.escape(words)}</text>')


def line(points, colour, dashes="", width=1.5):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"/>'


def box(x, y, width, height, fill="none", edge="#999", told=""):
    inside = f"<title>{html.escape(told)}</title>" if told else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" stroke="{edge}">{inside}</rect>'


def dot(x, y, colour, radius=3.0, told=""):
    """What is told appears where the pointer rests."""
    inside = f"<title>{html.escape(told)}</title>" if told else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}">{inside}</circle>'


def picture(width, height, lines):
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
                      f'<rect width="{width}" height="{height}" fill="white"/>', *lines, "</svg>"]) + "\n"
