// SPDX-License-Identifier: Apache-2.0
// A string of a template that remembers which of its bytes the template wrote (literal) and which
// came from a message (user). Valid UTF-8. A plain value; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime::jinja {

class text {
 public:
  struct run {
    std::size_t end;  // offset behind its last byte
    bool literal;
  };

  text() = default;
  text(std::string_view bytes, bool literal) { append(bytes, literal); }

  const std::string& bytes() const noexcept { return bytes_; }
  const std::vector<run>& runs() const noexcept { return runs_; }
  std::size_t size() const noexcept { return bytes_.size(); }
  bool literal_at(std::size_t offset) const noexcept;  // offset < size()

  void append(std::string_view bytes, bool literal);
  void append(const text& other) { append(other, 0, other.size()); }
  void append(const text& other, std::size_t offset, std::size_t size);
  text part(std::size_t offset, std::size_t size = std::string::npos) const;

 private:
  std::string bytes_;
  std::vector<run> runs_;  // cover bytes_, neighbours differ
};

}  // namespace dinfer::runtime::jinja
