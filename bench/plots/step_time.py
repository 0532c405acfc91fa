# SPDX-License-Identifier: Apache-2.0
"""docs/step_time.svg: what a decoding step of 1, 64 and 256 sequences is made of, beside its bound (rows of bench/breakdown.py)."""
from .results import Missing, newest
from .svg import box, line, picture, text

WIDTH, HEIGHT, LEFT, TOP, RIGHT = 420, 300, 56, 40, 250
SEQUENCES = (1, 64, 256)
CONFIGS = {"8b-bf16": "bfloat16", "8b-fp8": "8-bit floats"}
# From the bottom. part of the row's name, what it is called, colour
PARTS = [("products", "products with weights", "#1f77b4"), ("attention", "attention", "#d62728"),
         ("norms", "norms, residual", "#2ca02c"), ("rope_store", "rotation, cache store", "#9467bd"),
         ("activation", "activation", "#ff7f0e"), ("sampling", "sampling", "#8c564b"),
         ("sums", "sums across GPUs", "#e377c2"), ("copies", "copies, embedding", "#17becf"),
         ("loading", "loading", "#bcbd22"), ("other", "other kernels", "#7f7f7f"), ("waits", "waits", "#dddddd")]


def bar(at, width, scale, figures, config, sequences):
    """A bar from the bottom of the panel up, and its total."""
    out, level = [], 0.0
    for part, name, colour in PARTS:
        ms = figures.get((config, f"breakdown_b{sequences}_{part}"), 0)
        if ms > 0:
            told = f"{CONFIGS[config]}, {sequences} sequences, {name}: {ms:.3f} ms"
            out.append(box(at, TOP + HEIGHT - (level + ms) * scale, width, ms * scale, colour, "white", told))
            if ms * scale >= 13:
                out.append(text(at + width / 2, TOP + HEIGHT - (level + ms / 2) * scale + 4, f"{ms:.2f}",
                                colour="#333" if part == "waits" else "white"))
            level += ms
    total = figures[config, f"breakdown_b{sequences}_step"]
    return [*out, text(at + width / 2, TOP + HEIGHT - level * scale - 6, f"{total:.2f}", size=12),
            text(at + width / 2, TOP + HEIGHT + 14, CONFIGS[config], size=10)]


def draw(folder, device):
    figures = newest(folder, device)
    configs = [c for c in CONFIGS if all((c, f"breakdown_b{n}_products") in figures for n in SEQUENCES)]
    if not configs:
        raise Missing("no rows breakdown_b1_..., _b64_ and _b256_: bench/breakdown.py")
    from rows import TARGETS
    bounds = {n: TARGETS["1gpu-bf16"][f"step_ms_b{n}"]["bound"] for n in SEQUENCES}
    scale = HEIGHT / (1.12 * max(figures[c, f"breakdown_b{n}_step"] for c in configs for n in SEQUENCES))
    out = [box(LEFT, TOP, WIDTH, HEIGHT), text(LEFT + WIDTH / 2, TOP - 12, "a decoding step at the shapes of Llama-3.1-8B (ms)", size=12)]
    for ms in range(0, int(HEIGHT / scale) + 1, 2):
        out.append(text(LEFT - 6, TOP + HEIGHT - ms * scale + 4, str(ms), "end"))
    group = WIDTH / len(SEQUENCES)
    width = 0.7 * group / len(configs)
    for i, n in enumerate(SEQUENCES):
        begin = LEFT + i * group + 0.15 * group
        out.append(text(LEFT + (i + 0.5) * group, TOP + HEIGHT + 30, f"{n} sequence" + "s" * (n > 1), size=12))
        for k, config in enumerate(configs):
            out += bar(begin + k * width, width - 4, scale, figures, config, n)
        if configs[0] == "8b-bf16":
            y = TOP + HEIGHT - bounds[n] * scale
            out.append(line([(begin - 8, y), (begin + width + 4, y)], "black", "5 3"))
    shown = [p for p in reversed(PARTS) if any(figures.get((c, f"breakdown_b{n}_{p[0]}"), 0) > 0 for c in configs for n in SEQUENCES)]
    x = LEFT + WIDTH + 20
    for i, (_, name, colour) in enumerate(shown):
        out += [box(x, TOP + 8 + i * 20, 14, 12, colour, "white"), text(x + 22, TOP + 18 + i * 20, name, "start", 12)]
    y = TOP + 18 + len(shown) * 20
    out += [line([(x, y - 4), (x + 16, y - 4)], "black", "5 3"), text(x + 22, y, "bound (bfloat16)", "start", 12)]
    return picture(LEFT + WIDTH + RIGHT, TOP + HEIGHT + 44, out)
