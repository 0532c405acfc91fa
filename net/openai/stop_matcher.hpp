// SPDX-License-Identifier: Apache-2.0
// Finds stop strings in text that arrives in pieces. Text that could still become a stop string is
// held back; each byte is looked at once per string (Knuth, Morris, Pratt 1977). One stream, one
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::net {

// The strings of a call with their failure tables; shared by its choices, immutable.
class stop_strings {
 public:
  explicit stop_strings(std::vector<std::string> texts);
  const std::vector<std::string>& texts() const noexcept { return texts_; }
  // How much of text `i` is matched after `c`, when `matched` bytes (less than all) were before it.
  std::uint32_t next(std::size_t i, std::uint32_t matched, char c) const noexcept;

 private:
  std::vector<std::string> texts_;
  std::vector<std::vector<std::uint32_t>> failure_;
};

class stop_matcher {
 public:
  explicit stop_matcher(std::shared_ptr<const stop_strings> strings);

  // Appends to `out` what is certain. The index of the stop string that is now complete, the
  // longest when several end at the same byte; it and all after it are not in `out`. Call nothing
  // after that.
  std::optional<std::size_t> push(std::string_view text, std::string& out);
  // The text that was held back.
  std::string finish();

 private:
  std::shared_ptr<const stop_strings> strings_;
  std::vector<std::uint32_t> matched_;  // per string
  std::string held_;
};

}  // namespace dinfer::net
