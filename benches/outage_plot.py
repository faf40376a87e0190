"""The story of an outage as a time series, and that as a plot: SVG, by hand."""
from outage_rig import seconds_of

BUCKET = 1.0
COLOURS = {"closed": "#cfe8d5", "half_open": "#f2c14e", "open": "#d1495b", "cooling_down": "#8d6fb8"}
WORDS = {"closed": "breaker closed", "half_open": "half-open", "open": "open", "cooling_down": "cooling down"}
WIDTH, LEFT, RIGHT = 960, 66, 14
INK, FAINT = "#333", "#888"


def time_series(samples, counts, seen, began, spans):
    """Per second: calls offered and answered well, by when they began; provider calls by target; states of the gates."""
    length = spans[-1][2]
    seconds = int(length / BUCKET)
    offered, good = [0] * seconds, [0] * seconds
    for sample in samples:
        idx = min(seconds - 1, int(sample.start / BUCKET))
        offered[idx] += 1
        good[idx] += sample.outcome == "ok"
    counts = [(moment - began, asked) for moment, asked in counts]
    targets = sorted(counts[0][1])
    provider = {name: rates([(moment, asked[name]) for moment, asked in counts], seconds) for name in targets}
    return {"bucket_seconds": BUCKET, "parts": spans, "offered": [n / BUCKET for n in offered], "goodput": [n / BUCKET for n in good],
            "provider_calls": provider, "gates": {name: gate(name, seen, began, length) for name in targets}}


def rates(counts, seconds):
    """Calls a second in each bucket, from counts that were read at odd moments."""
    def at(moment):
        before = (counts[0][0], counts[0][1])
        for now in counts:
            if now[0] >= moment:
                gap = now[0] - before[0]
                part = (moment - before[0]) / gap if gap > 0 else 1
                return before[1] + (now[1] - before[1]) * max(0.0, min(1.0, part))
            before = now
        return before[1]
    edges = [at(n * BUCKET) for n in range(seconds + 1)]
    return [round((b - a) / BUCKET, 2) for a, b in zip(edges, edges[1:])]


def gate(name, seen, began, length):
    """Stretches of time (state, from, to) in which a gate held calls back: its breaker's changes, and cool-downs."""
    changes, cooling = {}, []
    for moment, targets in seen:
        target = targets[name]
        for change in target["transitions"]:
            # Each look tells the time of a change anew, a little different.
            at = seconds_of(change["time"]) - began
            changes[round(at, 1), change["to"]] = at
        if target["cool_down_end_time"]:
            cooling.append(("cooling_down", max(0.0, moment - began), min(length, seconds_of(target["cool_down_end_time"]) - began)))
    stretches, state, since = [], "closed", 0.0
    for (_, to), at in sorted(changes.items(), key=lambda one: one[1]):
        if to != state:
            stretches.append((state, since, at))
            state, since = to, at
    stretches.append((state, since, length))
    return [stretch for stretch in stretches if stretch[0] != "closed"] + cooling


class Canvas:
    def __init__(self, length):
        self.out, self.length = [], length

    def x(self, second):
        return LEFT + (WIDTH - LEFT - RIGHT) * max(0.0, min(1.0, second / self.length))

    def text(self, x, y, words, anchor="middle", size=11, fill=INK):
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{words}</text>')

    def rect(self, x, y, width, height, fill):
        self.out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.5, width):.1f}" height="{height:.1f}" fill="{fill}"/>')

    def rule(self, y):
        self.out.append(f'<path d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}" stroke="#ddd" stroke-width=".7"/>')

    def curve(self, path, colour, width=1.5, dashes=""):
        dashes = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')

    def area(self, path, base, colour):
        self.out.append(f'<path d="{path}V{base}H{LEFT}Z" fill="{colour}"/>')


def steps(canvas, values, bucket, top, height, most):
    """The path of a curve that is flat within each bucket."""
    path, last = "", None
    for idx, value in enumerate(values):
        y = round(top + height - height * min(value, most) / most, 1)
        if y != last:
            path += f"H{canvas.x(idx * bucket):.1f}V{y}" if path else f"M{LEFT},{y}"
            last = y
    return path + f"H{WIDTH - RIGHT}"


def in_two(words):
    """Long words in two lines."""
    breaks = [idx for idx, char in enumerate(words) if char == " "]
    if len(words) < 20 or not breaks:
        return [words]
    middle = min(breaks, key=lambda idx: abs(idx - len(words) / 2))
    return [words[:middle], words[middle + 1:]]


def panel(canvas, top, height, most, title):
    for value in range(0, most + 1, 40):
        y = top + height - height * value / most
        canvas.rule(y)
        canvas.text(LEFT - 6, y + 4, str(value), "end", 10, FAINT)
    canvas.out.append(f'<text x="14" y="{top + height / 2:.0f}" font-size="11" fill="{INK}" text-anchor="middle" '
                      f'transform="rotate(-90 14 {top + height / 2:.0f})">{title}</text>')


def legend(canvas, y, entries):
    x = LEFT
    for colour, words in entries:
        canvas.rect(x, y - 9, 12, 9, colour)
        canvas.text(x + 17, y - 1, words, "start")
        x += 17 + 6.4 * len(words) + 22


def draw(series):
    length, bucket = series["parts"][-1][2], series["bucket_seconds"]
    canvas = Canvas(length)
    for idx, (name, start, end) in enumerate(series["parts"]):
        trouble = name not in ("calm", "repaired")
        canvas.rect(canvas.x(start), 46, canvas.x(end) - canvas.x(start), 352, "#fdf0ee" if trouble else "#fff")
        lines = in_two(name)
        for row, words in enumerate(lines):
            canvas.text((canvas.x(start) + canvas.x(end)) / 2, 40 - 13 * (len(lines) - 1 - row), words, size=11 if trouble else 10, fill=INK if trouble else FAINT)
    panel(canvas, 56, 130, 120, "calls a second")
    canvas.area(steps(canvas, series["goodput"], bucket, 56, 130, 120), 186, "#7fb77e")
    canvas.curve(steps(canvas, series["offered"], bucket, 56, 130, 120), INK, 1.2, "4 3")
    legend(canvas, 206, [("#7fb77e", "goodput: answered with a whole output"), (INK, "offered")])
    panel(canvas, 224, 110, 120, "provider calls")
    for name, colour in zip(series["provider_calls"], ("#2e6f95", "#e08e45")):
        canvas.curve(steps(canvas, series["provider_calls"][name], bucket, 224, 110, 120), colour, 1.7)
    names = list(series["provider_calls"])
    legend(canvas, 354, [(colour, f"calls to the {name}") for name, colour in zip(names, ("#2e6f95", "#e08e45"))])
    for row, name in enumerate(names):
        y = 364 + 16 * row
        canvas.text(LEFT - 6, y + 10, name, "end", 10)
        canvas.rect(LEFT, y, WIDTH - LEFT - RIGHT, 12, COLOURS["closed"])
        for state, start, end in series["gates"][name]:
            canvas.rect(canvas.x(start), y, canvas.x(end) - canvas.x(start), 12, COLOURS.get(state, "#999"))
    for second in range(0, int(length) + 1, 30 if length > 120 else 15):
        canvas.text(canvas.x(second), 412, f"{second} s", size=10, fill=FAINT)
    legend(canvas, 432, [(COLOURS[state], WORDS[state]) for state in COLOURS])
    body = "\n".join(canvas.out)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 442" font-family="system-ui, sans-serif" role="img" '
            f'aria-label="Goodput, provider calls and breakers over time">\n<rect width="{WIDTH}" height="442" fill="#fff"/>\n{body}\n</svg>\n')
