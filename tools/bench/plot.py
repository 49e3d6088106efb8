"""Bars as SVG: panels, each with its own scale from zero, a bar with its value for each peer. Readable on light and dark."""
from xml.sax.saxutils import escape

COLOURS = {"berth": "#3b82d0", "haproxy": "#c2703d", "haproxy, no token": "#d9a066", "nginx, no token": "#5a9e6f"}
OTHERS = ("#3b82d0", "#8d8d94", "#9a6fb0", "#5a9e6f")
WIDTH, PANEL, LABELS, BAR, GAP, HEAD = 820, 400, 128, 15, 5, 24
# One grey that has contrast enough on white and on black: a page may be dark where the system is not.
STYLE = "text { font: 12px system-ui, sans-serif; fill: #6e7781 } .head { font-weight: 600 } .axis { stroke: #8c959f }"


def _number(x):
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def _panel(x, y, head, unit, values):
    """values: (peer, figure) in order. Its SVG."""
    largest = max(max(v for _, v in values), 1e-9)
    room = PANEL - LABELS - 70
    out = [f'<text class="head" x="{x}" y="{y + 12}">{escape(head)} ({escape(unit)})</text>']
    for i, (peer, value) in enumerate(values):
        top = y + HEAD + i * (BAR + GAP)
        length = max(room * value / largest, 0.5)
        out.append(f'<text x="{x + LABELS - 6}" y="{top + 12}" text-anchor="end">{escape(peer)}</text>')
        out.append(f'<rect x="{x + LABELS}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{COLOURS.get(peer, OTHERS[i % len(OTHERS)])}"/>')
        out.append(f'<text x="{x + LABELS + length + 5:.1f}" y="{top + 12}">{_number(value)}</text>')
    bottom = y + HEAD + len(values) * (BAR + GAP)
    out.append(f'<line class="axis" x1="{x + LABELS}" y1="{y + HEAD - 3}" x2="{x + LABELS}" y2="{bottom - 2}"/>')
    return "\n".join(out)


def bars(title, panels):
    """panels: (head, unit, [(peer, figure)]), two in a row. The file's text."""
    rows = [panels[i:i + 2] for i in range(0, len(panels), 2)]
    y, body = 30, []
    for row in rows:
        for k, (head, unit, values) in enumerate(row):
            body.append(_panel(10 + k * (PANEL + 10), y, head, unit, values))
        y += HEAD + max(len(values) for _, _, values in row) * (BAR + GAP) + 14
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img">\n'
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
            f'<text class="head" x="10" y="16">{escape(title)}</text>\n' + "\n".join(body) + "\n</svg>\n")
