# SPDX-License-Identifier: Apache-2.0
"""Trains small tokenizers with PyPI `tokenizers`, each with the steps of a published model's
tokenizer.json, stores them in tests/golden/tokenizers/NAME.json, and beside them hashes of what the
reference makes of 2000 seeded strings. Needs: pip install tokenizers==0.23.3.

    python tests/reference/checkpoint_tokenizers.py [FOLDER]

FOLDER holds real tokenizer.json files, as FOLDER/NAME/tokenizer.json; hashes alone are stored of
them. scripts/fetch_tokenizers brings it.
"""
import json
import pathlib
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

from tokenizer_reference import GOLDEN, Hash, SplitMix, random_text, read_pool

FOLDER = GOLDEN / "tokenizers"
STRINGS = 2000
VOCABULARY = 1200
MARK = "\u2581"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST
QWEN2 = SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST
BYTES = pre_tokenizers.ByteLevel.alphabet()


def split(expression, behaviour="isolated", invert=False):
    pattern = Regex(expression[1]) if isinstance(expression, tuple) else expression
    return pre_tokenizers.Split(pattern, behaviour, invert)


def regex(text):
    return ("regex", text)


def byte_level(space=False, own=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=own)


def bos(token, number):
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B",
                                         special_tokens=[(token, number)])


def special(*texts, **flags):
    return [AddedToken(t, special=True, normalized=False, **flags) for t in texts]


def words(*texts, **flags):
    return [AddedToken(t, special=False, **flags) for t in texts]


class Plan:
    """How a tokenizer is made: `first` has the tokens that come before the trained ones."""

    def __init__(self, pre=None, normal=None, decode=None, post=None, first=(), added=(), **model):
        self.pre, self.normal, self.post = pre, normal, post
        self.decode = decode or decoders.ByteLevel()
        self.first, self.added, self.model = list(first), list(added), model

    def train(self, corpus):
        made = Tokenizer(models.BPE(**self.model))
        if self.pre:
            made.pre_tokenizer = self.pre
        if self.normal:
            made.normalizer = self.normal
        byte_fallback = self.model.get("byte_fallback", False)
        spelt = [f"<0x{b:02X}>" for b in range(256)] if byte_fallback else []
        alphabet = [] if isinstance(self.decode, decoders.Sequence) else BYTES
        names = [str(t) if isinstance(t, str) else t.content for t in self.first]
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=names + spelt,
                                      initial_alphabet=alphabet, limit_alphabet=300,
                                      max_token_length=24, show_progress=False)
        made.train_from_iterator(corpus, trainer)
        # Training names all it was given special; what is, is said once more in the file's words.
        state = json.loads(made.to_str())
        state["added_tokens"] = []
        made = Tokenizer.from_str(json.dumps(state))
        for token in [*self.first, *self.added]:
            if isinstance(token, str):
                token = AddedToken(token, special=True, normalized=False)
            (made.add_special_tokens if token.special else made.add_tokens)([token])
        if self.post:
            made.post_processor = self.post
        made.decoder = self.decode
        return made


def sentence_pieces(strip=True):
    last = [decoders.Strip(" ", 1, 0)] if strip else []
    return decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(),
                              *last])


SEQUENCE = pre_tokenizers.Sequence
PLANS = {
    "gpt2": Plan(byte_level(), first=special("<|endoftext|>"), post=processors.ByteLevel()),
    "opt": Plan(byte_level(), first=special("<s>", "<pad>", "</s>", "<unk>"), post=bos("</s>", 2)),
    "roberta_spaces": Plan(byte_level(space=True), first=special("<s>"),
                           added=special("<mask>", lstrip=True)),
    "llama3": Plan(SEQUENCE([split(regex(LLAMA3)), byte_level(own=False)]), ignore_merges=True,
                   post=processors.Sequence([processors.ByteLevel(), bos("<|begin_of_text|>", VOCABULARY)]),
                   added=special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>",
                                 "<|start_header_id|>", "<|end_header_id|>")),
    "qwen2": Plan(SEQUENCE([split(regex(QWEN2)), byte_level(own=False)]), normal=normalizers.NFC(),
                  added=special("<|endoftext|>", "<|im_start|>", "<|im_end|>")
                  + words("<tool_call>", "</tool_call>", normalized=False)),
    "smollm2": Plan(SEQUENCE([pre_tokenizers.Digits(individual_digits=True), byte_level()]),
                    first=special("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
    "neox": Plan(byte_level(), normal=normalizers.NFC(), first=special("<|endoftext|>"),
                 added=words("  ", "   ", "     ", "\t\t", normalized=True)
                 + words("word", single_word=True) + words("don", "Ünit", single_word=True)),
    "llama2": Plan(None, normal=normalizers.Sequence([normalizers.Prepend(MARK),
                                                      normalizers.Replace(" ", MARK)]),
                   decode=sentence_pieces(), first=special("<unk>", "<s>", "</s>"),
                   post=bos("<s>", 1), byte_fallback=True, fuse_unk=True, unk_token="<unk>"),
    "llama2_first": Plan(pre_tokenizers.Metaspace(MARK, prepend_scheme="first", split=False),
                         decode=sentence_pieces(), first=special("<unk>", "<s>", "</s>"),
                         post=bos("<s>", 1), byte_fallback=True, fuse_unk=True, unk_token="<unk>"),
    "phi3": Plan(None, normal=normalizers.Sequence([normalizers.Prepend(MARK),
                                                    normalizers.Replace(" ", MARK)]),
                 decode=sentence_pieces(), first=special("<unk>", "<s>")
                 + special("</s>", rstrip=True), added=special("<|im_end|>", "<|user|>", rstrip=True),
                 byte_fallback=True, unk_token="<unk>"),
    "gemma": Plan(split(" ", "merged_with_previous"), normal=normalizers.Replace(" ", MARK),
                  decode=sentence_pieces(False), first=special("<pad>", "<eos>", "<bos>", "<unk>"),
                  added=words("\n\n", MARK + MARK, normalized=False), post=bos("<bos>", 2),
                  byte_fallback=True, fuse_unk=True, unk_token="<unk>"),
    "metaspace": Plan(pre_tokenizers.Metaspace(MARK, prepend_scheme="always", split=True),
                      decode=decoders.Sequence([decoders.Metaspace(MARK)]), unk_token="<unk>",
                      first=special("<unk>")),
    "unknown": Plan(SEQUENCE([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits()]),
                    normal=normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()]),
                    decode=decoders.Sequence([decoders.Fuse()]), first=special("[UNK]"),
                    unk_token="[UNK]"),
    "expressions": Plan(SEQUENCE([split(regex(r"\p{Lu}\w*"), "merged_with_next"),
                                  split(regex(r"[^\w\s]+"), "contiguous"),
                                  split(regex(r"^.|$"), "isolated"),
                                  split(regex(r"(?=[aeiou])"), "isolated"),
                                  split("--", "removed"),
                                  split(regex(r"\d+|\s"), "merged_with_previous", True),
                                  byte_level(own=False)]),
                        normal=normalizers.Sequence([normalizers.NFKC(),
                                                     normalizers.Replace(Regex(r" {3,}"), "  ")]),
                        added=words("Don", normalized=True, lstrip=True, rstrip=True)),
    "whitespace": Plan(pre_tokenizers.Whitespace(), normal=normalizers.NFD(),
                       decode=decoders.Sequence([decoders.Fuse()]), unk_token="<unk>",
                       first=special("<unk>"), fuse_unk=True),
}


def texts_of(made, pool, seed):
    """Seeded strings, into some of which added tokens are put."""
    rng = SplitMix(seed)
    added = [t.content for _, t in sorted(made.get_added_tokens_decoder().items())]
    for _ in range(STRINGS):
        text = random_text(rng, pool)
        if rng.below(2) == 0:
            text += added[rng.below(len(added))] + random_text(rng, pool)
        yield text


def answers(made, pool):
    """Per string: ids with what goes around a text, ids without, and the text that they show."""
    for text in texts_of(made, pool, 3):
        around = made.encode(text, add_special_tokens=True).ids
        plain = made.encode(text, add_special_tokens=False).ids
        shown = made.decode(plain, skip_special_tokens=False)
        yield around, plain, list(shown.encode())


def store(name, made, pool):
    lines, h = [], Hash()
    for i, parts in enumerate(answers(made, pool)):
        for numbers in parts:
            h.add(numbers)
        if i % 20 == 19:
            lines.append(f"{h.value:016x}\n")
            h = Hash()
    (FOLDER / f"{name}.txt").write_text("".join(lines))


def published(folder):
    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if not (folder / "vocab.json").exists():
        return None
    made = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    made.pre_tokenizer, made.decoder = byte_level(), decoders.ByteLevel()
    made.add_special_tokens(special("<|endoftext|>"))
    return made


def main():
    pool = read_pool()
    rng = SplitMix(11)
    corpus = [random_text(rng, pool) for _ in range(4000)] + pool * 50
    for name, plan in PLANS.items():
        made = plan.train(corpus)
        (FOLDER / f"{name}.json").write_text(made.to_str(), encoding="utf-8")
        store(name, Tokenizer.from_file(str(FOLDER / f"{name}.json")), pool)
        print(name, made.get_vocab_size())
    for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()) if len(sys.argv) > 1 else []:
        made = published(folder)
        if made:
            store(f"real_{folder.name}", made, pool)
            print(folder.name, made.get_vocab_size())


if __name__ == "__main__":
    main()
