// SPDX-License-Identifier: Apache-2.0
// Runs of one origin, kept as short a list as there are changes of origin. Any thread.
#include "runtime/tokenizer/template/text.hpp"

#include <algorithm>

namespace dinfer::runtime::jinja {

namespace {

std::vector<text::run>::const_iterator run_of(const std::vector<text::run>& runs,
                                              std::size_t offset) noexcept {
  return std::upper_bound(runs.begin(), runs.end(), offset,
                          [](std::size_t at, const text::run& r) { return at < r.end; });
}

}  // namespace

bool text::literal_at(std::size_t offset) const noexcept { return run_of(runs_, offset)->literal; }

void text::append(std::string_view bytes, bool literal) {
  if (bytes.empty()) return;
  bytes_.append(bytes);
  if (!runs_.empty() && runs_.back().literal == literal) runs_.back().end = bytes_.size();
  else runs_.push_back({bytes_.size(), literal});
}

void text::append(const text& other, std::size_t offset, std::size_t size) {
  if (&other == this) return append(text(other), offset, size);
  const std::size_t end = offset + std::min(size, other.size() - offset);
  for (auto r = run_of(other.runs_, offset); offset < end; ++r) {
    const std::size_t stop = std::min(r->end, end);
    append(std::string_view(other.bytes_).substr(offset, stop - offset), r->literal);
    offset = stop;
  }
}

text text::part(std::size_t offset, std::size_t size) const {
  text out;
  if (offset < bytes_.size()) out.append(*this, offset, size);
  return out;
}

}  // namespace dinfer::runtime::jinja
