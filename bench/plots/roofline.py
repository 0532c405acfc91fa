# SPDX-License-Identifier: Apache-2.0
"""docs/roofline.svg: what every operation of bench_gpu_ops reaches, beside what memory and tensor cores allow. From the newest result file
of bfloat16 whose rows say bytes and operations; the roofs are those of the run, by which it found its bounds."""
import math

from .results import Missing, files
from .svg import box, dot, line, picture, text

WIDTH, HEIGHT, LEFT, TOP, RIGHT = 640, 500, 70, 40, 210
CONFIG = "8b-bf16"
X, Y = (0.12, 20000.0), (0.004, 1500.0)  # operations a byte; TFLOP/s
# Begin of the operation's name, what it is called, colour, what its labels count
KINDS = [("linear_head", "output projection", "#17becf", ""), ("linear_", "products of layers", "#1f77b4", " rows"),
         ("decode_", "attention, decoding", "#d62728", ""), ("prefill_", "attention, prompts", "#ff7f0e", " tokens"),
         ("add_norm", "norm and residual", "#2ca02c", " rows"), ("rope_store", "rotation, cache store", "#9467bd", " rows"),
         ("sample_greedy", "greedy sampling", "#8c564b", " rows")]
LABELLED = ("linear_gate_up", "decode_b1", "decode_b256", "prefill", "add_norm", "sample_greedy")


def share(value, ends):
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0])


def place(intensity, tflops):
    return LEFT + WIDTH * share(intensity, X), TOP + HEIGHT * (1 - share(tflops, Y))


def kind_of(operation):
    return next((kind for kind in KINDS if operation.startswith(kind[0])), None)


class Point:
    """A row: "op_linear_o_t64_us" is the point "t64" of the line "linear_o", "op_decode_b8_c512_us" "c512" of "decode_b8"."""

    def __init__(self, row):
        self.line, self.at = row["workload"].removeprefix("op_").removesuffix("_us").rsplit("_", 1)
        self.us, self.bytes, self.flops, self.bound = row["value"], row["bytes"], row["flops"], row["bound"]
        self.kind = kind_of(self.line + "_")

    def place(self):
        return place(self.flops / self.bytes, self.flops / self.us * 1e-6)

    def told(self):
        return (f"{self.line} {self.at}: {self.us:.1f} us, {self.flops / self.us * 1e-6:.3g} TFLOP/s, {self.bytes / self.us * 1e-6:.2f} TB/s, "
                f"{self.us / self.bound:.2f} times the bound")

    def label(self):
        if self.line.startswith("decode_"):
            return f"{self.line.removeprefix('decode_b')} x {self.at[1:]}"
        return self.at[1:] + (self.kind[3].removesuffix("s") if self.at[1:] == "1" else self.kind[3])


def points_of(folder, device):
    fit = lambda row: row["config"] == CONFIG and row["workload"].startswith("op_") and row.get("flops", 0) > 0 and row.get("bytes", 0) > 0
    for result in reversed(files(folder, device)):
        points = [p for p in map(Point, filter(fit, result["rows"])) if p.kind]
        if any(p.line.startswith("linear_") for p in points):
            return points, result
    raise Missing("no rows op_... with bytes and flops: bench_gpu_ops --json, bench/rows.py keep")


def roofs(points):
    """Bytes and operations a microsecond: a bound is the larger of both times, so no row has more, and some row has each."""
    return max(p.bytes / p.bound for p in points), max(p.flops / p.bound for p in points)


def axes():
    out = [box(LEFT, TOP, WIDTH, HEIGHT)]
    for exponent in range(-2, 5):
        for ends, power in ((X, 10.0 ** exponent), (Y, 10.0 ** exponent)):
            if not ends[0] <= power <= ends[1]:
                continue
            if ends is X:
                x, _ = place(power, Y[0])
                out += [line([(x, TOP), (x, TOP + HEIGHT)], "#eee", width=1), text(x, TOP + HEIGHT + 16, f"{power:g}")]
            else:
                _, y = place(X[0], power)
                out += [line([(LEFT, y), (LEFT + WIDTH, y)], "#eee", width=1), text(LEFT - 6, y + 4, f"{power:g}", "end")]
    return [*out, text(LEFT + WIDTH / 2, TOP + HEIGHT + 34, "operations a byte of memory", size=12),
            text(18, TOP + HEIGHT / 2, "TFLOP/s", size=12, turned=-90)]


def roof(bytes_us, flops_us):
    knee, top = flops_us / bytes_us, flops_us * 1e-6
    slope = lambda intensity: place(intensity, intensity * bytes_us * 1e-6)
    low = max(X[0], Y[0] / (bytes_us * 1e-6))
    middle_x, middle_y = slope(14)
    tilt = -math.degrees(math.atan2(slope(1)[1] - slope(10)[1], slope(10)[0] - slope(1)[0]))
    return [line([slope(low), slope(knee), place(X[1], top)], "black"),
            text(middle_x, middle_y - 8, f"memory, {bytes_us * 1e-6:.2f} TB/s", size=12, turned=tilt),
            text(place(X[1], top)[0] - 6, place(X[1], top)[1] - 8, f"tensor cores, {top:.0f} TFLOP/s", "end", 12)]


class Labels:
    """Words beside points, but none over another, over a point or over the roof."""

    def __init__(self, points, bytes_us, flops_us):
        self.taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
        self.knee, self.top = place(flops_us / bytes_us, flops_us * 1e-6)
        self.rise = share(10 * Y[0], Y) * HEIGHT / (share(10 * X[0], X) * WIDTH)

    def free(self, area):
        roof_y = self.top + self.rise * max(0, self.knee - area[0])
        inside = LEFT < area[0] and area[2] < LEFT + WIDTH and area[1] > roof_y + 2
        return inside and not any(a[0] < area[2] and area[0] < a[2] and a[1] < area[3] and area[1] < a[3] for a in self.taken)

    def beside(self, x, y, words, colour):
        width = 5.6 * len(words)
        for left, base in ((x + 7, y + 4), (x + 5, y + 16), (x - width / 2, y + 18), (x - width / 2, y + 30), (x - width - 7, y + 4)):
            area = left, base - 9, left + width, base + 2
            if self.free(area):
                self.taken.append(area)
                return [text(left, base, words, "start", 10, colour)]
        return []


def draw(folder, device):
    points, result = points_of(folder, device)
    bytes_us, flops_us = roofs(points)
    out = [*axes(), *roof(bytes_us, flops_us),
           text(LEFT + WIDTH / 2, TOP - 14, f"operations at the shapes of Llama-3.1-8B, {CONFIG[3:]}, {result['device']}", size=12)]
    lines = {}
    for p in points:
        lines.setdefault(p.line, []).append(p)
    for some in lines.values():
        out.append(line([p.place() for p in some], some[0].kind[2], width=0.6))
    out += [dot(*p.place(), p.kind[2], told=p.told()) for p in points]
    labels = Labels([p.place() for p in points], bytes_us, flops_us)
    for name in LABELLED:
        for p in lines.get(name, []):
            out += labels.beside(*p.place(), p.label(), p.kind[2])
    shown = [kind for kind in KINDS if any(p.kind is kind for p in points)]
    for i, (_, name, colour, _) in enumerate(shown):
        y = TOP + 14 + 20 * i
        out += [dot(LEFT + WIDTH + 22, y, colour, 4), text(LEFT + WIDTH + 34, y + 4, name, "start", 12)]
    y = TOP + 34 + 20 * len(shown)
    out += [text(LEFT + WIDTH + 18, y + 16 * i, words, "start", 10) for i, words in
            enumerate(("beside points: rows or tokens,", "in decoding sequences x context;", "a line is one matrix, or one", "number of sequences"))]
    return picture(LEFT + WIDTH + RIGHT, TOP + HEIGHT + 50, out)
