# SPDX-License-Identifier: Apache-2.0
"""torch's float8_e4m3fn: writes tests/golden/f8_e4m3.txt, what every code stands for, and where each begins.

    python tests/reference/f8_reference.py        needs torch; any version gives the same bits

Lines of codes 0 to 126, the positive numbers: its value, then the smallest float32 that becomes it, saturated at 448 first, both as
hexadecimal bits. Between two of these beginnings everything becomes the same, which is checked for all bfloat16."""
import pathlib

import numpy as np
import torch

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "f8_e4m3.txt"
LARGEST = 126  # 448; 127 is NaN


def codes_of(bits):
    values = torch.from_numpy(np.asarray(bits, dtype=np.uint32).view(np.float32).copy())
    return values.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy()


def beginning(code):
    low, high = 0, 0x7F800000  # infinity becomes the largest
    while low < high:
        middle = (low + high) // 2
        if codes_of([middle])[0] >= code:
            high = middle
        else:
            low = middle + 1
    return low


def main():
    begins = np.array([beginning(code) for code in range(LARGEST + 1)], dtype=np.uint32)
    halves = np.arange(0x7F81, dtype=np.uint32) << 16
    assert (codes_of(halves) == np.searchsorted(begins, halves, side="right") - 1).all()
    assert (codes_of(halves | 0x80000000) == (codes_of(halves) | 128)).all()
    assert codes_of([0x7FC00000])[0] == 127
    values = torch.arange(LARGEST + 1, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy().view(np.uint32)
    GOLDEN.write_text("".join(f"{value:08x} {begin:08x}\n" for value, begin in zip(values, begins)))


main()
