// SPDX-License-Identifier: Apache-2.0
// Strict JSON for what clients send, and typed reading of an object's fields. Only for .cpp files
// of this folder; the first problem is kept, later reads are then no-ops.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/base/limits.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace boost::json {
class array;
class object;
class value;
}  // namespace boost::json

namespace dinfer::net {

// Owns a parsed document whose top is an object.
class json_document {
 public:
  // Errors: invalid_argument for anything but RFC 8259 in valid UTF-8 without lone surrogates,
  // repeated names, numbers beyond a double, depth over 32, or more than a million values. Its
  // subject is the top's field that was being read, if there was one.
  static result<json_document> parse(std::string_view text);
  json_document(json_document&&) noexcept;
  json_document& operator=(json_document&&) noexcept;
  ~json_document();
  const boost::json::object& top() const;

 private:
  explicit json_document(std::unique_ptr<boost::json::value> value);
  std::unique_ptr<boost::json::value> value_;
};

// Reads the fields of one object. A field that is null counts as absent. Getters leave `out` alone
// when the field is absent or wrong.
class json_fields {
 public:
  // `path` stands before names in messages: "messages[3]."
  explicit json_fields(const boost::json::object& object, std::string path = {})
      : object_(object), path_(std::move(path)) {}

  void text(std::string_view name, std::string& out, runtime::limit size);
  void long_text(std::string_view name, std::string& out);  // bounded by the body alone
  void flag(std::string_view name, bool& out);
  void number(std::string_view name, runtime::limit range, float& out);
  void integer(std::string_view name, runtime::limit range, std::optional<std::int64_t>& out);
  void seed(std::string_view name, std::optional<std::uint64_t>& out);
  void token_ids(std::string_view name, std::vector<token_id>& out, std::size_t most);
  const boost::json::array* array(std::string_view name);
  const boost::json::object* object(std::string_view name);

  // The field's value, or nullptr when absent or null; marks the name as known.
  const boost::json::value* find(std::string_view name);
  bool has(std::string_view name) { return find(name) != nullptr; }
  void known(std::string_view name) { known_.insert(name); }  // accepted, and without effect

  void wrong(std::string_view name, std::string_view what);  // "<name> must be <what>"
  void refuse(error problem);                                // the first one is kept
  bool failed() const noexcept { return problem_.has_value(); }
  result<void> done() const;
  // Names that somebody asked for, in the object or not.
  std::vector<std::string> known_names() const { return {known_.begin(), known_.end()}; }
  // Names that nobody asked for, at most `most`.
  std::vector<std::string> unknown(std::size_t most) const;

 private:
  const boost::json::object& object_;
  std::string path_;
  std::set<std::string_view> known_;
  std::optional<error> problem_;
};

// A list of whole numbers as token ids; nullopt: something else is in it.
std::optional<std::vector<token_id>> as_token_ids(const boost::json::array& list);

}  // namespace dinfer::net
