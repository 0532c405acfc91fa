// SPDX-License-Identifier: Apache-2.0
// The JSON files of a tokenizer, which are hostile: their size and nesting are limited, and every
// look at a value checks its type and names its place in the file. One thread.
#pragma once

#include "dinfer/error.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace dinfer::runtime {

// One value of a document, which must outlive it.
class json_node {
 public:
  // "tokenizer.json: model.merges: <why>"; the subject is the place.
  tl::unexpected<error> wrong(const std::string& why, errc code = errc::bad_file) const;
  const std::string& place() const noexcept { return place_; }

  bool is_object() const noexcept;
  bool is_array() const noexcept;
  bool is_text() const noexcept;
  std::size_t size() const noexcept;  // of an array or object; at most 2^24 - 1 is told

  // Absent and null are one. An object without such a key, or no object at all: nullopt.
  std::optional<json_node> find(std::string_view key) const;
  // The value under `key`; error: bad_file, it is missing.
  result<json_node> need(std::string_view key) const;

  // Of this value; error: bad_file, another type.
  result<std::string_view> text() const;
  result<std::int64_t> integer() const;
  result<bool> boolean() const;
  // Of the value under `key`, `otherwise` if it is absent.
  result<std::string_view> text(std::string_view key, std::string_view otherwise) const;
  result<bool> boolean(std::string_view key, bool otherwise) const;

  // Calls with every element, which knows its place; stops at an error. Error: no array.
  using element_use = std::function<result<void>(const json_node&)>;
  result<void> each(const element_use& use) const;
  // Likewise with every member of an object.
  using member_use = std::function<result<void>(std::string_view key, const json_node&)>;
  result<void> each_member(const member_use& use) const;

 private:
  friend class json_file;
  using handle = std::array<std::uint64_t, 2>;  // simdjson's element, which stays out of headers
  json_node(handle value, const std::string* file, std::string place)
      : value_(value), file_(file), place_(std::move(place)) {}

  handle value_;
  const std::string* file_;
  std::string place_;
};

class json_file {
 public:
  // `name` stands in messages. Errors: bad_file (not JSON, nested too deeply, not an object).
  static result<json_file> parse(std::string_view text, std::string name);
  // Reads the file first, of at most `most` bytes. Errors: those of mapped_file, bad_file.
  static result<json_file> open(const std::string& path, std::size_t most);

  json_file(json_file&&) noexcept;
  json_file& operator=(json_file&&) noexcept;
  ~json_file();

  json_node root() const;
  std::size_t bytes() const noexcept;

 private:
  struct impl;
  explicit json_file(std::unique_ptr<impl> p);
  std::unique_ptr<impl> impl_;
};

}  // namespace dinfer::runtime
