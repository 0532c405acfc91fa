// SPDX-License-Identifier: Apache-2.0
// Which file says what. tokenizer_config.json may be missing, and of it only what changes ids or
// prompts is read. Any thread.
#include "runtime/tokenizer/checkpoint_words.hpp"

#include "runtime/base/mapped_file.hpp"
#include "runtime/tokenizer/tokenizer_json.hpp"
#include "runtime/weights/fingerprint.hpp"

#include <fmt/format.h>

#include <array>
#include <filesystem>

namespace dinfer::runtime {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_tokenizer = std::size_t{128} << 20;
constexpr std::size_t max_config = std::size_t{16} << 20;
constexpr std::size_t max_template = std::size_t{1} << 20;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

std::string_view text_of(const mapped_file& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// A file that is read whole, and a part of the fingerprint.
result<mapped_file> open_part(const fs::path& path, std::size_t most, std::string& fingerprint) {
  DINFER_TRY(auto file, mapped_file::open(path.string()));
  if (file.bytes().size() > most)
    return fail(
        errc::bad_file,
        fmt::format("{}: has {} bytes; at most {} fit", path.string(), file.bytes().size(), most),
        path.string());
  fingerprint += fingerprint_of(file.bytes(), 0, true);
  return file;
}

result<json_file> open_json(const fs::path& path, std::size_t most, std::string& fingerprint) {
  DINFER_TRY(const auto file, open_part(path, most, fingerprint));
  return json_file::parse(text_of(file), path.string());
}

// "<s>", or an object that says more of it.
result<std::string> token_text(const json_node& root, std::string_view key) {
  const auto node = root.find(key);
  if (!node) return std::string();
  if (node->is_object()) {
    DINFER_TRY(const std::string_view content, node->text("content", ""));
    return std::string(content);
  }
  DINFER_TRY(const std::string_view text, node->text());
  return std::string(text);
}

// The template itself, or of several the one that is named "default".
result<std::string> template_text(const json_node& root) {
  const auto node = root.find("chat_template");
  if (!node) return std::string();
  if (!node->is_array()) {
    DINFER_TRY(const std::string_view text, node->text());
    return std::string(text);
  }
  std::string chosen;
  DINFER_CHECK(node->each([&](const json_node& each) -> result<void> {
    DINFER_TRY(const std::string_view name, each.text("name", ""));
    DINFER_TRY(const std::string_view text, each.text("template", ""));
    if (name == "default") chosen = std::string(text);
    return {};
  }));
  return chosen;
}

// Classes that put bos and eos around a text by these keys, whatever tokenizer.json says.
bool adds_by_config(std::string_view tokenizer_class) {
  return tokenizer_class.starts_with("Llama") || tokenizer_class.starts_with("Gemma") ||
         tokenizer_class.starts_with("CodeLlama");
}

struct config {
  checkpoint_tokens tokens;
  std::string chat_template;
  std::string tokenizer_class;
  bool space_before = false;
};

result<config> read_config(const json_node& root) {
  config out;
  DINFER_TRY(out.chat_template, template_text(root));
  DINFER_TRY(out.tokens.bos, token_text(root, "bos_token"));
  DINFER_TRY(out.tokens.eos, token_text(root, "eos_token"));
  for (const std::string_view key : {"unk_token", "pad_token"}) {
    DINFER_TRY(out.tokens.control.emplace_back(), token_text(root, key));
  }
  DINFER_TRY(const std::string_view name, root.text("tokenizer_class", ""));
  out.tokenizer_class = std::string(name);
  DINFER_TRY(out.space_before, root.boolean("add_prefix_space", false));
  if (root.find("add_bos_token")) {
    DINFER_TRY(out.tokens.add_bos, root.boolean("add_bos_token", false));
  }
  if (root.find("add_eos_token")) {
    DINFER_TRY(out.tokens.add_eos, root.boolean("add_eos_token", false));
  }
  return out;
}

result<tokenizer_parts> read_parts(const fs::path& folder, config& says, std::string& fingerprint) {
  if (is_file(folder / "tokenizer.json")) {
    if (!adds_by_config(says.tokenizer_class)) says.tokens.add_bos = says.tokens.add_eos = {};
    DINFER_TRY(const auto file, open_json(folder / "tokenizer.json", max_tokenizer, fingerprint));
    return read_tokenizer_json(file, says.tokens);
  }
  DINFER_TRY(const auto vocab, open_json(folder / "vocab.json", max_tokenizer, fingerprint));
  DINFER_TRY(const auto merges, open_part(folder / "merges.txt", max_tokenizer, fingerprint));
  says.tokens.space_before = says.space_before;
  return read_vocab_and_merges(vocab, text_of(merges), (folder / "merges.txt").string(),
                               says.tokens);
}

}  // namespace

bool holds_tokenizer(const std::string& folder) {
  const fs::path path(folder);
  return is_file(path / "tokenizer.json") ||
         (is_file(path / "vocab.json") && is_file(path / "merges.txt"));
}

result<model_words> open_checkpoint_words(const std::string& folder) {
  if (!holds_tokenizer(folder))
    return fail(errc::not_found,
                folder + ": holds neither tokenizer.json nor vocab.json and merges.txt", folder);
  const fs::path path(folder);
  model_words out;
  config says;
  if (is_file(path / "tokenizer_config.json")) {
    DINFER_TRY(const auto file,
               open_json(path / "tokenizer_config.json", max_config, out.fingerprint));
    DINFER_TRY(says, read_config(file.root()));
  }
  DINFER_TRY(auto parts, read_parts(path, says, out.fingerprint));
  out.words = make_tokenizer(std::move(parts));
  out.chat_template = std::move(says.chat_template);
  if (is_file(path / "chat_template.jinja")) {
    DINFER_TRY(const auto file,
               open_part(path / "chat_template.jinja", max_template, out.fingerprint));
    out.chat_template = std::string(text_of(file));
  }
  return out;
}

}  // namespace dinfer::runtime
