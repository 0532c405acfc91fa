# SPDX-License-Identifier: Apache-2.0
"""docs/scaling.svg: what one, two and four GPUs of a kind do with the same model. Throughput, with a dashed line for as many times what
one GPU does, and the time of a decoding step. Each point is the newest value of its row on such a device."""
from .results import Missing, newest
from .svg import box, dot, line, picture, text

WIDTH, HEIGHT, LEFT, TOP = 300, 220, 64, 44  # of a panel, and what is around it
ONE = "1gpu-bf16"
# name, colour, config by number of GPUs
SPLITS = [("tensor parallel", "#1f77b4", {1: ONE, 2: "tp2-bf16", 4: "tp4-bf16"}),
          ("pipeline parallel, at four 2 x 2", "#d62728", {1: ONE, 2: "pp2-bf16", 4: "tp2pp2-bf16"})]
# workload, title, unit, whether twice the GPUs could do twice as much
PANELS = [("thr_256_256", "1024 requests, 256 tokens in, 256 out", "1000 tok/s", True),
          ("thr_1024_128", "512 requests, 1024 in, 128 out", "1000 tok/s", True),
          ("step_ms_b1", "step of 1 sequence", "ms", False),
          ("step_ms_b256", "step of 256 sequences", "ms", False)]


def panel(at_x, at_y, figures, workload, title, unit, grows):
    scale = 1000 if grows else 1
    value = lambda config: figures[config, workload] / scale
    one = value(ONE)
    shown = [value(config) for _, _, configs in SPLITS for config in configs.values() if (config, workload) in figures]
    top = 1.1 * max([*shown, 4 * one if grows else 0])
    place = lambda gpus, v: (at_x + WIDTH * (0.1 + 0.8 * (gpus - 1) / 3), at_y + HEIGHT * (1 - v / top))
    out = [box(at_x, at_y, WIDTH, HEIGHT), text(at_x + WIDTH / 2, at_y - 8, f"{title} ({unit})", size=12)]
    out += [text(place(n, 0)[0], at_y + HEIGHT + 16, f"{n} GPU" + "s" * (n > 1)) for n in (1, 2, 4)]
    out += [text(at_x - 6, at_y + HEIGHT * (1 - k / 4) + 4, f"{top * k / 4:.3g}", "end") for k in range(5)]
    if grows:
        out.append(line([place(n, n * one) for n in (1, 2, 4)], "#999", "4 3"))
    for i, (_, colour, configs) in enumerate(SPLITS):
        points = [(n, value(config)) for n, config in configs.items() if (config, workload) in figures]
        out.append(line([place(*p) for p in points], colour))
        for n, v in points:
            x, y = place(n, v)
            out.append(dot(x, y, colour))
            if n > 1 or i == 0:
                higher = v >= max(value(c[n]) for _, _, c in SPLITS if (c[n], workload) in figures)
                out.append(text(x, y + (-8 if higher else 16), f"{v:.3g}", colour=colour if n > 1 else "#333"))
    return out


def draw(folder, device):
    figures = newest(folder, device)
    missing = [workload for workload, *_ in PANELS if (ONE, workload) not in figures]
    if missing:
        raise Missing(f"no row {missing[0]} of {ONE}: bench/rows.py run")
    width, height = 2 * (LEFT + WIDTH) + 20, 2 * (TOP + HEIGHT + 20) + 30
    out = []
    for i, (workload, *rest) in enumerate(PANELS):
        out += panel(LEFT + i % 2 * (LEFT + WIDTH), TOP + i // 2 * (TOP + HEIGHT + 20), figures, workload, *rest)
    for i, (name, colour, _) in enumerate([*SPLITS, ("as many times one GPU", "#999", None)]):
        x = LEFT + i * 240
        out += [line([(x, height - 14), (x + 24, height - 14)], colour), text(x + 30, height - 10, name, "start")]
    return picture(width, height, out)
