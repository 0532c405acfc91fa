// SPDX-License-Identifier: Apache-2.0
// The values of a template: Python's, as far as templates use them. Lists and dictionaries are
// shared and never change; namespaces and macros belong to the evaluator, so nothing can refer to
// itself and nesting stays bounded. One thread at a time.
#pragma once

#include "runtime/tokenizer/template/text.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace dinfer::runtime::jinja {

struct value;
struct name_space;
struct callable;

struct undefined {
  std::string name;  // what was looked for
};
struct none {};

// How large a value is with all it contains, however often it contains the same: what a walk over
// it costs at most.
struct extent {
  std::uint32_t depth = 0;   // of nesting
  std::uint64_t weight = 0;  // bytes, about
};

struct list {
  std::vector<value> items;
  bool tuple = false;
  extent size{};  // set when it becomes a value
};

struct dict {
  std::vector<std::pair<text, value>> items;  // in order of insertion
  extent size{};

  const value* find(std::string_view key) const noexcept;
  void set(const text& key, value to);
};

// What the values of one rendering hold while they live, in bytes. Values that are made while a
// scope lives belong to its account, which must outlive them.
struct value_memory {
  std::uint64_t live = 0;
};
class memory_scope {
 public:
  explicit memory_scope(value_memory& account) noexcept;
  memory_scope(const memory_scope&) = delete;
  memory_scope& operator=(const memory_scope&) = delete;
  ~memory_scope();

 private:
  value_memory* before_;
};

using text_ptr = std::shared_ptr<const text>;
using list_ptr = std::shared_ptr<const list>;
using dict_ptr = std::shared_ptr<const dict>;

struct value {
  std::variant<undefined, none, bool, std::int64_t, double, text_ptr, list_ptr, dict_ptr,
               name_space*, std::shared_ptr<const callable>>
      held;

  value() = default;
  template <class T>
  value(T x) : held(std::move(x)) {}  // NOLINT: every alternative converts
  value(text x);
  value(list x);
  value(dict x);

  template <class T>
  const T* as() const noexcept {
    return std::get_if<T>(&held);
  }
  const text* string() const noexcept { return as<text_ptr>() ? as<text_ptr>()->get() : nullptr; }
  const list* sequence() const noexcept { return as<list_ptr>() ? as<list_ptr>()->get() : nullptr; }
  const dict* mapping() const noexcept { return as<dict_ptr>() ? as<dict_ptr>()->get() : nullptr; }
  bool is_undefined() const noexcept { return as<undefined>() != nullptr; }
  bool is_none() const noexcept { return as<none>() != nullptr; }
};

struct name_space {
  std::map<std::string, value, std::less<>> members;
};

bool truthy(const value& v) noexcept;
bool equal(const value& a, const value& b) noexcept;
// -1, 0, 1; 2: these cannot be ordered.
int order(const value& a, const value& b) noexcept;
bool is_number(const value& v) noexcept;  // bool, integer or float
double number_of(const value& v) noexcept;
const char* type_name(const value& v) noexcept;  // as Python calls it
extent extent_of(const value& v) noexcept;

text shown(const value& v);                                          // str(v)
void append_quoted(text& out, const value& v);                       // repr(v)
void append_json(text& out, const value& v, int indent, int level);  // indent < 0: one line

}  // namespace dinfer::runtime::jinja
