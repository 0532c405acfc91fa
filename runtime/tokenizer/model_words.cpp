// SPDX-License-Identifier: Apache-2.0
// Whose tokeniser serves, and the one of models that have none.
#include "runtime/tokenizer/model_words.hpp"

#include "runtime/tokenizer/checkpoint_words.hpp"
#include "runtime/weights/random_source.hpp"

#include <fmt/format.h>

#include <filesystem>

namespace dinfer::runtime {
namespace {

// Token ids without words: texts become nothing and so do tokens.
class wordless final : public tokenizer {
 public:
  explicit wordless(std::int32_t size) : size_(size) {}
  bool has_words() const noexcept override { return false; }
  std::vector<token_id> encode(std::string_view, bool, bool) const override { return {}; }
  std::vector<token_id> encode(std::span<const prompt_span>, bool) const override { return {}; }
  std::string_view bytes(token_id) const noexcept override { return {}; }
  bool special(token_id) const noexcept override { return false; }
  std::string decode(std::span<const token_id>, bool) const override { return {}; }
  std::int32_t size() const noexcept override { return size_; }
  std::optional<token_id> bos() const noexcept override { return std::nullopt; }
  std::optional<token_id> eos() const noexcept override { return std::nullopt; }
  std::optional<token_id> find(std::string_view) const noexcept override { return std::nullopt; }

 private:
  std::int32_t size_;
};

result<model_words> words_of(const weight_source& source) {
  model_words out;
  DINFER_TRY(out.words, make_tokenizer(source));
  out.chat_template = source.text("tokenizer.chat_template").value_or("");
  return out;
}

result<model_words> open_named(const std::string& path) {
  if (holds_tokenizer(path)) return open_checkpoint_words(path);
  DINFER_TRY(const auto file, open_weights(path));
  DINFER_TRY(auto out, words_of(*file));
  out.fingerprint = file->fingerprint(false);
  return out;
}

// A model's folder, or the one in which its file lies.
std::string folder_of(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return path;
  return std::filesystem::path(path).parent_path().string();
}

}  // namespace

result<model_words> open_words(const weight_source& model, const std::string& model_path,
                               const std::string& tokenizer_path, std::int32_t vocabulary) {
  model_words out;
  if (!tokenizer_path.empty()) {
    DINFER_TRY(out, open_named(tokenizer_path));
  } else if (model.format() == "gguf") {
    return words_of(model);
  } else if (model.format() == config_json_key && !holds_tokenizer(folder_of(model_path))) {
    out.words = std::make_unique<wordless>(vocabulary);
  } else {
    DINFER_TRY(out, open_checkpoint_words(folder_of(model_path)));
  }
  if (out.words->size() > vocabulary)
    return fail(errc::invalid_argument,
                fmt::format("model.tokenizer: {} has {} tokens and the model {} rows for them; a "
                            "tokeniser of {} tokens or fewer fits",
                            tokenizer_path.empty() ? model_path : tokenizer_path, out.words->size(),
                            vocabulary, vocabulary),
                "model.tokenizer");
  return out;
}

}  // namespace dinfer::runtime
