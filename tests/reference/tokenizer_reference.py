# SPDX-License-Identifier: Apache-2.0
"""Asks PyPI `tokenizers` how seeded random strings and every code point are tokenised, and writes
hashes of the answers to tests/golden/tokenizer_*.txt. Needs: pip install tokenizers gguf.

    python tests/reference/tokenizer_reference.py SmolLM2-135M-Instruct.Q4_1.gguf

The tokenizer is built from the file's own vocabulary and merges, with the pre-tokenizer of SmolLM2's
tokenizer.json; reading the GGUF with transformers would lose the digit rule. The strings come from
the generator below, which tests/runtime/tokenizer/random_text.hpp repeats number by number.
"""
import pathlib
import sys

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
STRINGS = 10_000
MASK = (1 << 64) - 1


class SplitMix:
    """SplitMix64 (Steele et al. 2014)."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return z ^ z >> 31

    def below(self, n):
        return self.next() % n


def unescape(line):
    out, i = "", 0
    while i < len(line):
        if line[i] != "\\":
            out, i = out + line[i], i + 1
        elif line[i + 1] == "u":
            out, i = out + chr(int(line[i + 2 : i + 6], 16)), i + 6
        else:
            out, i = out + {"n": "\n", "r": "\r", "t": "\t", "s": " ", "\\": "\\"}[line[i + 1]], i + 2
    return out


def read_pool():
    text = (GOLDEN / "tokenizer_pool.txt").read_text(encoding="utf-8")
    return [unescape(line) for line in text.split("\n") if line]


BLOCKS = [(0x20, 0x5F), (0xA0, 0x60), (0x370, 0x90), (0x400, 0x100), (0x590, 0x270), (0x900, 0x80),
          (0x300, 0x70), (0x2000, 0x70), (0x2190, 0x100), (0x3040, 0xC0), (0x4E00, 0x5000),
          (0xAC00, 0x2BA0), (0x1F300, 0x300), (0x1D400, 0x400)]
SPACES = [0x20, 0x20, 0x20, 0x0A, 0x0D, 0x09, 0xA0, 0x3000, 0x0B, 0x2029]


def random_text(rng, pool):
    text = ""
    for _ in range(1 + rng.below(12)):
        kind = rng.below(8)
        if kind < 3:
            text += pool[rng.below(len(pool))]
        elif kind == 3:
            text += " " + pool[rng.below(len(pool))]
        elif kind == 4:
            text += "".join(chr(0x30 + rng.below(10)) for _ in range(1 + rng.below(7)))
        elif kind == 5:
            text += "".join(chr(SPACES[rng.below(len(SPACES))]) for _ in range(1 + rng.below(5)))
        elif kind == 6:
            first, count = BLOCKS[rng.below(len(BLOCKS))]
            text += "".join(chr(first + rng.below(count)) for _ in range(1 + rng.below(6)))
        else:
            c = pool[rng.below(len(pool))][0]
            text += c * (1 + rng.below(40))
    return text


class Hash:
    """FNV-1a, 64 bit, over 32-bit numbers byte by byte."""

    def __init__(self):
        self.value = 0xCBF29CE484222325

    def add(self, numbers):
        h = self.value
        for n in numbers:
            for shift in (0, 8, 16, 24):
                h = ((h ^ (n >> shift & 255)) * 0x100000001B3) & MASK
        for _ in range(4):
            h = ((h ^ 255) * 0x100000001B3) & MASK
        self.value = h


def hashes(answers, group):
    out, h, count = [], Hash(), 0
    for numbers in answers:
        h.add(numbers)
        count += 1
        if count == group:
            out.append(h.value)
            h, count = Hash(), 0
    if count:
        out.append(h.value)
    return out


def write(name, values):
    (GOLDEN / name).write_text("".join(f"{v:016x}\n" for v in values))


def code_points():
    return (c for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def batches(items, size):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def byte_level(split=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)


def build(path, with_added):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    made = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level()])
    if with_added:
        made.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                 for t, k in zip(tokens, kinds) if k == 3])
    return made


LEAD = r"[^\r\n\p{L}\p{N}]?"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
RULES = {
    "gpt2": [GPT2],
    "llama-bpe": [rf"{SHORT}|{LEAD}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACE}"],
    "qwen2": [rf"{SHORT}|{LEAD}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACE}"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
                    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
                    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + SPACE],
    "gpt-4o": [f"{LEAD}{UPPER}*{LOWER}+{SHORT}?|{LEAD}{UPPER}+{LOWER}*{SHORT}?"
               r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACE],
    "tekken": [f"{LEAD}{UPPER}*{LOWER}+|{LEAD}{UPPER}+{LOWER}*"
               r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACE],
}


def splitter(patterns):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])


def sizes(rule, text):
    return [len(piece.encode()) for piece, _ in rule.pre_tokenize_str(text)]


def main():
    rng, pool = SplitMix(1), read_pool()
    texts = [random_text(rng, pool) for _ in range(STRINGS)]
    plain, added = build(sys.argv[1], False), build(sys.argv[1], True)
    write("tokenizer_strings.txt", hashes((e.ids for e in plain.encode_batch(texts)), 10))
    write("tokenizer_strings_added.txt", hashes((e.ids for e in added.encode_batch(texts)), 10))

    def every_code_point():
        for batch in batches(code_points(), 65536):
            asked = [t for c in batch for t in (chr(c), f"a{chr(c)}b 1{chr(c)}")]
            yield from (e.ids for e in plain.encode_batch(asked))

    write("tokenizer_code_points.txt", hashes(every_code_point(), 2 * 4096))
    for name, patterns in RULES.items():
        rule = splitter(patterns)
        write(f"split_{name}.txt", hashes((sizes(rule, t) for t in texts), 100))
    for name in ("gpt2", "llama-bpe"):
        rule = splitter(RULES[name])
        asked = (f"a{chr(c)}b 1{chr(c)}'{chr(c)} {chr(c)}" for c in code_points())
        write(f"split_{name}_code_points.txt", hashes((sizes(rule, t) for t in asked), 65536))


if __name__ == "__main__":
    main()
