// SPDX-License-Identifier: Apache-2.0
// Reads JSON that a server sent without trusting its shape: what is absent, or of another kind, is
// empty. Copies share the document. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::apps {

class json_view {
 public:
  // Of what is no JSON: an empty view.
  static json_view parse(std::string_view text);

  json_view operator[](std::string_view key) const;
  explicit operator bool() const noexcept { return value_ != nullptr; }  // it is there
  std::string text() const;      // of a string; control characters become '?'
  std::uint64_t number() const;  // not negative; else 0
  bool truth() const;
  std::vector<json_view> items() const;  // of an array

 private:
  std::shared_ptr<const void> document_;
  const void* value_ = nullptr;  // a boost::json::value of it
};

}  // namespace dinfer::apps
