# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/gguf/small.hex with PyPI's gguf package (tried with 0.19.0, numpy 2).

A small GGUF file with a value of every metadata type and tensors of several types, as hex text. The
reader must read it (tests/runtime/weights/gguf_golden_test.cpp) and tests/support/gguf_writer.hpp
must write the same bytes. Run: python tests/reference/gguf_golden.py
"""
import os
import tempfile

import gguf
import numpy as np


def write(path):
    w = gguf.GGUFWriter(path, "llama")
    w.add_uint8("t.u8", 200)
    w.add_int8("t.i8", -100)
    w.add_uint16("t.u16", 60000)
    w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -2000000000)
    w.add_uint64("t.u64", 1 << 40)
    w.add_int64("t.i64", -(1 << 40))
    w.add_float32("t.f32", 0.1)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.yes", True)
    w.add_bool("t.no", False)
    w.add_string("t.text", "gr\u00fc\u00dfe \U0001f999")
    w.add_array("t.words", ["a", "", "\u00e9"])
    w.add_array("t.numbers", [1, -2, 3])
    w.add_array("t.reals", [0.5, -1.25])
    w.add_array("t.flags", [True, False, True])
    w.add_tensor("f32", np.arange(6, dtype=np.float32).reshape(2, 3))
    w.add_tensor("f16", np.arange(4, dtype=np.float16))
    blocks = np.arange(2 * 34, dtype=np.uint8).reshape(2, 34)
    w.add_tensor("q8_0", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    blocks = np.arange(3 * 40, dtype=np.uint8).reshape(3, 40)
    w.add_tensor("q4_1", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    target = os.path.join(here, "..", "golden", "gguf", "small.hex")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "small.gguf")
        write(path)
        with open(path, "rb") as f:
            data = f.read()
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w", encoding="ascii") as f:
        for at in range(0, len(data), 32):
            f.write(data[at : at + 32].hex() + "\n")


if __name__ == "__main__":
    main()
