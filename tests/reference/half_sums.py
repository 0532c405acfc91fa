# SPDX-License-Identifier: Apache-2.0
"""Sums of half-precision numbers in rank order, as torch makes them: writes tests/golden/half_sums.txt.

    python tests/reference/half_sums.py        needs torch; any version gives the same bits
One line per sum: type, the parts' bits in rank order, the sum's bits, all in hexadecimal.
"""
import pathlib

import torch

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "half_sums.txt"


def lines(name, dtype, generator):
    for ranks in (1, 2, 3, 4):
        # Any bits at all: subnormal numbers, infinities and NaN come along.
        bits = torch.randint(0, 65536, (ranks, 300), generator=generator).to(torch.int32)
        parts = bits.to(torch.uint16).view(dtype)
        near = (torch.randn((ranks, 150), generator=generator) * 10).to(dtype)  # and ordinary ones
        tiny = (torch.randn((ranks, 100), generator=generator) * 1e-6).to(dtype)
        parts = torch.cat([parts, near, tiny], dim=1)
        total = parts[0].float()
        for part in parts[1:]:
            total = total + part.float()
        rounded = total.to(dtype)
        for i in range(parts.shape[1]):
            value = "nan" if rounded[i].isnan() else f"{rounded[i:i + 1].view(torch.uint16).item():04x}"
            yield " ".join([name, *(f"{p[i:i + 1].view(torch.uint16).item():04x}" for p in parts), value])


def main():
    generator = torch.Generator().manual_seed(11)
    out = [*lines("bf16", torch.bfloat16, generator), *lines("f16", torch.float16, generator)]
    GOLDEN.write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
