// SPDX-License-Identifier: Apache-2.0
// Many of the smallest things that a format has, which take the most memory for a byte.
#include "tests/fuzz/large_inputs.hpp"

#include <array>

namespace dinfer::fuzz {
namespace {

struct shape {
  std::string_view target, head, repeated, tail;
  std::size_t most = 256 << 10;
};

using std::string_view_literals::operator""sv;

constexpr std::array shapes{
    shape{"gguf",
          "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0k\x9\0\0\0\x8\0\0\0"
          "\0\x70\0\0\0\0\0\0"sv,
          "\0\0\0\0\0\0\0\0"sv, ""},
    shape{"tokenizer_json", R"({"a":[)", "0,", "0]}"},
    shape{"tokenizer_json", R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[)",
          R"("a b",)", R"("a b"]}})"},
    shape{"tokenizer_json", R"({"pre_tokenizer":{"type":"Sequence","pretokenizers":[)",
          R"({"type":"Split","pattern":{"Regex":"a"},"behavior":"Isolated"},)",
          R"({"type":"ByteLevel"}]},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})"},
    shape{"vocab_merges", "{\"a\":0,\"b\":1,\"ab\":2}\0"sv, "a b\n", ""},
    shape{"tokenizer_config", R"({"chat_template":[)", "{},", "{}]}"},
    shape{"chat_template", "", "{{a}}", "", 128 << 10},
    shape{"chat_template", "{{", "1+", "1}}", 128 << 10},
    shape{"config_json", R"({"eos_token_id":[)", "0,", "0]}"},
    shape{"generation_config", R"({"eos_token_id":[)", "0,", "0]}"},
    shape{"cluster_conf", "a=[", "0,", "0]"},
    shape{"cluster_conf", "a=[", "{},", "{}]"},
    shape{"cluster_conf", "", "[[node]]\n", ""},
    shape{"cluster_conf", "[[node]]\ndevices=[", "'',", "'']"},
    shape{"openai", "\1{\"prompt\":[", "0,", "0]}"},
    shape{"openai", "\1{\"prompt\":\"", "x", "\"}"},
    shape{"openai", "\1{\"prompt\":\"x\",\"other\":[", "{},", "{}]}"},
    shape{"openai", "\2{\"return_token_strs\":true,\"prompt\":\"", "x", "\"}"},
    shape{"openai", "\3{\"tokens\":[", "0,", "0]}"},
    shape{"openai", "\0{\"messages\":["sv, R"({"role":"user","content":""},)",
          R"({"role":"user","content":""}]})"},
    shape{"safetensors_index", R"({"weight_map":{)", R"("a":"a.safetensors",)",
          R"("a":"a.safetensors"}})"},
};

}  // namespace

std::vector<std::string> large_inputs(std::string_view target) {
  std::vector<std::string> out;
  for (const auto& each : shapes) {
    if (each.target != target) continue;
    std::string made(each.head);
    while (made.size() + each.repeated.size() + each.tail.size() < each.most) made += each.repeated;
    out.push_back(made + std::string(each.tail));
  }
  return out;
}

}  // namespace dinfer::fuzz
