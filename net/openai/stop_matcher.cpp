// SPDX-License-Identifier: Apache-2.0
// One automaton per stop string, stepped together.
#include "net/openai/stop_matcher.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::net {

stop_strings::stop_strings(std::vector<std::string> texts) : texts_(std::move(texts)) {
  for (const auto& text : texts_) {
    // failure[k]: the longest proper border of the first k + 1 bytes.
    std::vector<std::uint32_t> failure(text.size(), 0);
    std::uint32_t border = 0;
    for (std::size_t k = 1; k < text.size(); ++k) {
      while (border > 0 && text[k] != text[border]) border = failure[border - 1];
      if (text[k] == text[border]) ++border;
      failure[k] = border;
    }
    failure_.push_back(std::move(failure));
  }
}

std::uint32_t stop_strings::next(std::size_t i, std::uint32_t matched, char c) const noexcept {
  const auto& text = texts_[i];
  while (matched > 0 && text[matched] != c) matched = failure_[i][matched - 1];
  return text[matched] == c ? matched + 1 : 0;
}

stop_matcher::stop_matcher(std::shared_ptr<const stop_strings> strings)
    : strings_(std::move(strings)), matched_(strings_->texts().size(), 0) {}

std::optional<std::size_t> stop_matcher::push(std::string_view text, std::string& out) {
  const auto& texts = strings_->texts();
  if (texts.empty()) {
    out += text;
    return std::nullopt;
  }
  for (const char c : text) {
    held_ += c;
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      matched_[i] = strings_->next(i, matched_[i], c);
      if (matched_[i] == texts[i].size() && (!found || texts[i].size() > texts[*found].size()))
        found = i;
    }
    if (!found) continue;
    out.append(held_, 0, held_.size() - texts[*found].size());
    held_.clear();
    return found;
  }
  // The longest suffix that begins a stop string starts at a character, as the strings do.
  const auto keep = *std::max_element(matched_.begin(), matched_.end());
  out.append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return std::nullopt;
}

std::string stop_matcher::finish() { return std::exchange(held_, {}); }

}  // namespace dinfer::net
