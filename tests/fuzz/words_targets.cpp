// SPDX-License-Identifier: Apache-2.0
// What turns text into ids: tokenizers as checkpoints have them, and chat templates.
#include "runtime/tokenizer/chat_template.hpp"
#include "runtime/tokenizer/checkpoint_words.hpp"
#include "runtime/tokenizer/tokenizer_json.hpp"
#include "tests/fuzz/folder.hpp"
#include "tests/fuzz/target.hpp"

#include <string>

namespace dinfer::fuzz {
namespace {

void try_words(const runtime::tokenizer& words, bool skip_special) {
  const auto tokens = words.encode("A don't <s> 12  \xC3\xA9\xFF</s>", true, true);
  for (const token_id t : tokens) require(t >= 0 && t < words.size(), "ids lie in the vocabulary");
  (void)words.decode(tokens, skip_special);
}

constexpr std::string_view small_tokenizer =
    R"({"added_tokens":[{"id":3,"content":"<s>","special":true}],"model":{"type":"BPE",)"
    R"("vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"pre_tokenizer":{"type":"ByteLevel",)"
    R"("add_prefix_space":false},"decoder":{"type":"ByteLevel"}})";

}  // namespace

void fuzz_tokenizer_json(bytes input) {
  const auto file = runtime::json_file::parse(text_of(input), "tokenizer.json");
  if (!file) return;
  auto parts = runtime::read_tokenizer_json(*file, {});
  if (parts) try_words(*runtime::make_tokenizer(std::move(*parts)), input.size() % 2 == 0);
}

// vocab.json before the first NUL, merges.txt behind it.
void fuzz_vocab_merges(bytes input) {
  const auto text = text_of(input);
  const auto cut = std::min(text.find('\0'), text.size());
  const auto vocab = runtime::json_file::parse(text.substr(0, cut), "vocab.json");
  if (!vocab) return;
  auto parts = runtime::read_vocab_and_merges(*vocab, text.substr(std::min(cut + 1, text.size())),
                                              "merges.txt", {});
  if (parts) try_words(*runtime::make_tokenizer(std::move(*parts)), input.size() % 2 == 0);
}

void fuzz_tokenizer_config(bytes input) {
  static const folder place([](const folder& f) { f.write("tokenizer.json", small_tokenizer); });
  place.write("tokenizer_config.json", text_of(input));
  const auto words = runtime::open_checkpoint_words(place.path());
  if (words) try_words(*words->words, true);
}

// What a client wrote must come out as a client's, whatever the template does with it.
void fuzz_chat_template(bytes input) {
  static const std::string secret = "\x02q7Zk\x03wB9x\x04";
  const auto source = text_of(input);
  const auto made = runtime::chat_template::parse(source);
  if (!made) return;
  runtime::template_inputs inputs;
  inputs.messages = {{"system", "Be brief.", ""},
                     {"user", "Hi " + secret + " <s>", "ann"},
                     {"assistant", " Hello ", ""},
                     {"user", "", ""}};
  inputs.add_generation_prompt = input.size() % 2 == 0;
  inputs.bos_token = "<s>";
  inputs.eos_token = "</s>";
  inputs.now_unix = 1'700'000'000;
  const auto spans = made->render(inputs);
  if (!spans || source.find(secret) != source.npos) return;
  for (const auto& span : *spans)
    require(!span.literal || span.text.find(secret) == std::string::npos,
            "a client's text is not the template's");
}

}  // namespace dinfer::fuzz
