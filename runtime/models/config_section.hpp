// SPDX-License-Identifier: Apache-2.0
// One object of a config.json, read key by key: every number has a range, every error names file
// and key. A key that is null counts as absent, as the library that writes these files has it. Text
// lives as long as any section of its file. Thread: one.
#pragma once

#include "dinfer/error.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

class config_section {
 public:
  // The whole file; `file` stands in messages. Error: bad_file.
  static result<config_section> parse(std::string_view text, const std::string& file);

  tl::unexpected<error> wrong(std::string_view key, const std::string& why,
                              errc code = errc::bad_file) const;
  tl::unexpected<error> unsupported(std::string_view key, const std::string& why) const {
    return wrong(key, why, errc::unsupported);
  }
  bool has(std::string_view key) const;

  // An integer from `least` to `most`; absent: `otherwise`, or an error without one.
  result<std::int32_t> integer(std::string_view key, std::int64_t least, std::int64_t most,
                               std::optional<std::int64_t> otherwise = {}) const;
  result<double> number(std::string_view key, std::optional<double> otherwise) const;
  result<double> positive(std::string_view key) const;
  result<bool> boolean(std::string_view key, bool otherwise = false) const;
  result<std::string_view> text(std::string_view key, std::string_view otherwise) const;
  // One integer or an array of them, `most` at most; absent: none.
  result<std::vector<std::int64_t>> integers(std::string_view key, std::size_t most) const;
  // The one string of an array, as `architectures` has it. nullopt: there are more, or others.
  result<std::optional<std::string_view>> only_text(std::string_view key) const;
  // The object under `key`. nullopt: absent.
  result<std::optional<config_section>> child(std::string_view key) const;
  // The objects under all keys, `most` at most; each must be one.
  result<std::vector<config_section>> children(std::size_t most) const;

 private:
  struct content;
  explicit config_section(std::shared_ptr<const content> c) : content_(std::move(c)) {}
  std::shared_ptr<const content> content_;
};

}  // namespace dinfer::runtime
