#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The house rules of docs/STYLE.md, as a test: rooms, doors of third parties, sizes, comments, files.

    scripts/tidy.py            prints every broken rule as file:line: rule, and exits 1 if there is one
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ["include", "kernels", "runtime", "net", "actors", "apps"]
SOURCES = (".hpp", ".cpp", ".cu", ".cuh")
LONGEST_LINE, LONGEST_FUNCTION = 100, 70
LONGEST_FILE = {".hpp": 170, ".cpp": 400, ".cu": 400, ".cuh": 200}
LARGEST_FILE_BYTES = 100 * 1024

# Who may include what: a pattern of the include, the files that may, and whether headers may too.
DOORS = [
    (r"caf/", r"^(actors|apps|bench|tests/(actors|sim)|examples)/|^include/dinfer/caf\.hpp", True),
    (r"boost/(asio|beast)", r"^(net|tests/(net|fuzz)|bench|apps)/", False),
    (r"boost/json", r"^(net|apps|tests|bench)/", False),
    (r"toml\+\+", r"^runtime/base/config", False),
    (r"spdlog/", r"^runtime/base/log\.cpp", False),
    (r"(pcre2|utf8proc)", r"^runtime/tokenizer/", False),
    (r"simdjson", r"^(runtime|tests)/", False),
    (r"CLI/", r"^apps/", False),
    (r"openssl/", r"^(net/tls|net/openai|runtime/weights)/", True),
    (r"cupti", r"^bench/kernel_profile\.cpp", False),
    (r"(cuda|cublas|nccl)", r"^kernels/cuda/|^net/comm/nccl|^tests/support/cuda_on_cpu|^tests/kernels/cuda", True),
]
BANNED = [
    (r"\bTODO\b|\bFIXME\b|\bXXX\b|\bHACK\b", "a note to self"),
    (r"using namespace std\b", "using namespace std"),
    (r"\bcaf::infinite\b", "a wait without a deadline"),
    (r"[^_]\bassert\(", "assert: use DINFER_ASSERT or an error"),
    (r"\"/(home|root|usr/local)/", "a path of one machine"),
]


def tracked():
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split("\n")
    return sorted(n for n in names if n and (ROOT / n).is_file())


def room_of(name):
    first = name.split("/")[0]
    return ROOMS.index(first) if first in ROOMS else None


def check_includes(name, lines, complain):
    room = room_of(name)
    for number, line in enumerate(lines, 1):
        found = re.match(r'\s*#\s*include\s*([<"])([^>"]+)', line)
        if not found:
            continue
        quote, target = found.groups()
        other = room_of("include/" + target if target.startswith("dinfer/") else target) if quote == '"' else None
        if room is not None and other is not None and other > room:
            complain(name, number, f"room {ROOMS[room]} includes {target}, which lies to its right")
        if quote == '"' and not (ROOT / target).exists() and not (ROOT / "include" / target).exists():
            complain(name, number, f'"{target}" is not written from the root')
        for pattern, allowed, headers in DOORS:
            if quote == "<" and re.match(pattern, target):
                if not re.search(allowed, name):
                    complain(name, number, f"<{target}> has another door: {allowed}")
                elif name.endswith(".hpp") and not headers:
                    complain(name, number, f"<{target}> belongs in a .cpp file")


def check_functions(name, lines, complain):
    """A function is a line that opens a brace at namespace or class indent and ends at the same indent."""
    start, indent = None, ""
    for number, line in enumerate(lines, 1):
        if start is None:
            opened = re.match(r"( {0,4})[A-Za-z_~\[].*\)[^;=]*\{$", line)
            head = re.match(r"\s*(namespace|class|struct|enum|union|TEST_CASE|extern)\b", line)
            if opened and not head:
                start, indent = number, opened.group(1)
        elif line.startswith(indent + "}"):
            if number - start + 1 > LONGEST_FUNCTION:
                complain(name, start, f"function of {number - start + 1} lines; at most {LONGEST_FUNCTION}")
            start = None


def check_source(name, complain):
    text = (ROOT / name).read_text()
    lines = text.split("\n")
    if not lines[0].startswith("// SPDX-License-Identifier: Apache-2.0"):
        complain(name, 1, "no SPDX line")
    elif not lines[1].startswith("// ") and not name.startswith("tests/"):
        complain(name, 2, "no paragraph that says what the file is for")
    limit = LONGEST_FILE[pathlib.Path(name).suffix]
    if not name.startswith("tests/") and len(lines) - 1 > limit:
        complain(name, len(lines), f"{len(lines) - 1} lines; at most {limit}")
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            complain(name, number, f"{len(line)} columns; at most {LONGEST_LINE}")
        for pattern, what in BANNED:
            if re.search(pattern, line):
                complain(name, number, what)
    check_includes(name, lines, complain)
    if not name.startswith("tests/"):
        check_functions(name, lines, complain)


def main():
    broken = []
    complain = lambda name, number, what: broken.append(f"{name}:{number}: {what}")
    names = tracked()
    listed = "".join((ROOT / n).read_text() for n in names if n.endswith("CMakeLists.txt") or n.endswith(".cmake"))
    for name in names:
        path = pathlib.Path(name)
        if (ROOT / name).stat().st_size > LARGEST_FILE_BYTES:
            complain(name, 1, f"{(ROOT / name).stat().st_size} bytes; at most {LARGEST_FILE_BYTES}")
        if path.suffix in SOURCES:
            check_source(name, complain)
        if path.suffix == ".cpp" and path.name not in listed:
            complain(name, 1, "no CMakeLists.txt builds it")
        if path.suffix == ".hpp" and "#pragma once" not in (ROOT / name).read_text():
            complain(name, 1, "no #pragma once")
    print("\n".join(broken) if broken else f"{len(names)} files keep the rules")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
