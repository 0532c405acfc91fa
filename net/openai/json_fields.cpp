// SPDX-License-Identifier: Apache-2.0
// Boost.JSON's parser under a handler that also refuses what its documents would hide: repeated
// names and too many values.
#include "net/openai/json_fields.hpp"

#include <fmt/format.h>
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/value.hpp>
#include <boost/json/value_stack.hpp>

#include <cmath>
#include <limits>
#include <unordered_set>

namespace dinfer::net {

namespace json = boost::json;

namespace {

constexpr std::size_t depth_max = 32;
constexpr std::size_t values_max = 1'000'000;
constexpr std::size_t names_max = 4096;  // of one object
constexpr std::size_t shown_bytes = 64;  // of a name in messages

// The events of basic_parser, passed on to Boost's own document builder. Returning false stops the
// parser; `problem` then says why.
struct strict_handler {
  static constexpr std::size_t max_object_size = names_max;
  static constexpr std::size_t max_array_size = values_max;
  static constexpr std::size_t max_key_size = 4096;
  static constexpr std::size_t max_string_size = std::numeric_limits<std::size_t>::max() / 2;
  using code = boost::system::error_code;
  using text = json::string_view;

  json::value_stack stack;
  std::vector<std::unordered_set<std::string>> names;  // of the objects that are open
  std::string key;
  std::string field;  // of the top, under way
  std::size_t values = 0;
  std::string problem;

  bool count(code& ec) {
    if (++values <= values_max) return true;
    return stop(fmt::format("more than {} values", values_max), ec);
  }
  bool stop(std::string why, code& ec) {
    problem = std::move(why);
    ec = json::error::syntax;
    return false;
  }

  bool on_document_begin(code&) {
    stack.reset();
    return true;
  }
  bool on_document_end(code&) { return true; }
  bool on_object_begin(code& ec) {
    names.emplace_back();
    return count(ec);
  }
  bool on_object_end(std::size_t n, code&) {
    names.pop_back();
    stack.push_object(n);
    return true;
  }
  bool on_array_begin(code& ec) { return count(ec); }
  bool on_array_end(std::size_t n, code&) {
    stack.push_array(n);
    return true;
  }
  bool on_key_part(text s, std::size_t, code&) {
    key.append(s.data(), s.size());
    stack.push_chars(s);
    return true;
  }
  bool on_key(text s, std::size_t, code& ec) {
    key.append(s.data(), s.size());
    stack.push_key(s);
    const bool fresh = names.back().insert(key).second;
    if (names.size() == 1) field = key.substr(0, shown_bytes);
    if (!fresh) return stop(fmt::format("the name \"{}\" is there twice", key), ec);
    key.clear();
    return true;
  }
  bool on_string_part(text s, std::size_t, code&) {
    stack.push_chars(s);
    return true;
  }
  bool on_string(text s, std::size_t, code& ec) {
    stack.push_string(s);
    return count(ec);
  }
  bool on_number_part(text, code&) { return true; }
  bool on_int64(std::int64_t i, text, code& ec) {
    stack.push_int64(i);
    return count(ec);
  }
  bool on_uint64(std::uint64_t u, text, code& ec) {
    stack.push_uint64(u);
    return count(ec);
  }
  bool on_double(double d, text, code& ec) {
    if (!std::isfinite(d)) return stop("a number is too large", ec);
    stack.push_double(d);
    return count(ec);
  }
  bool on_bool(bool b, code& ec) {
    stack.push_bool(b);
    return count(ec);
  }
  bool on_null(code& ec) {
    stack.push_null();
    return count(ec);
  }
  bool on_comment_part(text, code&) { return true; }
  bool on_comment(text, code&) { return true; }
};

}  // namespace

json_document::json_document(std::unique_ptr<json::value> value) : value_(std::move(value)) {}
json_document::json_document(json_document&&) noexcept = default;
json_document& json_document::operator=(json_document&&) noexcept = default;
json_document::~json_document() = default;

const json::object& json_document::top() const { return value_->get_object(); }

result<json_document> json_document::parse(std::string_view text) {
  json::parse_options options;
  options.max_depth = depth_max;
  json::basic_parser<strict_handler> parser(options);
  boost::system::error_code ec;
  const auto used = parser.write_some(false, text.data(), text.size(), ec);
  if (!ec && used < text.size()) ec = json::error::extra_data;
  if (ec) {
    const auto& why = parser.handler().problem;
    const auto& field = parser.handler().field;
    return fail(
        errc::invalid_argument,
        fmt::format("the body is not valid JSON: {} at byte {}{}", why.empty() ? ec.message() : why,
                    used, field.empty() ? "" : ", in the field " + field),
        field);
  }
  auto value = std::make_unique<json::value>(parser.handler().stack.release());
  if (!value->is_object()) return fail(errc::invalid_argument, "the body must be a JSON object");
  return json_document(std::move(value));
}

const json::value* json_fields::find(std::string_view name) {
  known_.insert(name);
  const auto* value = object_.if_contains({name.data(), name.size()});
  return value == nullptr || value->is_null() ? nullptr : value;
}

void json_fields::refuse(error problem) {
  if (problem_) return;
  problem.subject = path_ + problem.subject;
  problem_ = std::move(problem);
}

void json_fields::wrong(std::string_view name, std::string_view what) {
  refuse({errc::invalid_argument, fmt::format("{}{} must be {}", path_, name, what),
          std::string(name)});
}

void json_fields::text(std::string_view name, std::string& out, runtime::limit size) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (!value->is_string()) return wrong(name, "a string");
  const auto& s = value->get_string();
  const auto& row = runtime::limit_of(size);
  if (static_cast<double>(s.size()) > row.max)
    return wrong(name, fmt::format("at most {} bytes long", row.max));
  out.assign(s.data(), s.size());
}

void json_fields::long_text(std::string_view name, std::string& out) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (!value->is_string()) return wrong(name, "a string");
  out.assign(value->get_string().data(), value->get_string().size());
}

void json_fields::flag(std::string_view name, bool& out) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (!value->is_bool()) return wrong(name, "true or false");
  out = value->get_bool();
}

void json_fields::number(std::string_view name, runtime::limit range, float& out) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (!value->is_number()) return wrong(name, "a number");
  const auto number = value->to_number<double>();
  if (auto checked = runtime::check_limit(range, number); !checked) return refuse(checked.error());
  // Above zero as a double may be zero as a float; the row is asked again with what is used.
  const auto narrow = static_cast<float>(number);
  if (auto checked = runtime::check_limit(range, narrow); !checked) return refuse(checked.error());
  out = narrow;
}

void json_fields::integer(std::string_view name, runtime::limit range,
                          std::optional<std::int64_t>& out) {
  const auto* value = find(name);
  if (value == nullptr) return;
  double number = 0;
  if (value->is_int64()) number = static_cast<double>(value->get_int64());
  else if (value->is_uint64()) number = static_cast<double>(value->get_uint64());
  else if (value->is_double() && std::trunc(value->get_double()) == value->get_double())
    number = value->get_double();  // some clients know no integers and send 3.0
  else return wrong(name, "a whole number");
  if (auto checked = runtime::check_limit(range, number); !checked) {
    auto problem = checked.error();
    problem.subject = name;
    // Rows are shared: top_logprobs is bounded by the row of logprobs.
    const std::string_view row = runtime::limit_of(range).field;
    if (problem.message.starts_with(row)) problem.message.replace(0, row.size(), name);
    return refuse(std::move(problem));
  }
  out = static_cast<std::int64_t>(number);  // rows of integers lie within 2^53
}

void json_fields::seed(std::string_view name, std::optional<std::uint64_t>& out) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (value->is_int64()) out = static_cast<std::uint64_t>(value->get_int64());
  else if (value->is_uint64()) out = value->get_uint64();
  else wrong(name, "a whole number of 64 bits");
}

void json_fields::token_ids(std::string_view name, std::vector<token_id>& out, std::size_t most) {
  const auto* list = array(name);
  if (list == nullptr) return;
  if (list->size() > most) return wrong(name, fmt::format("a list of at most {} ids", most));
  auto ids = as_token_ids(*list);
  if (!ids) return wrong(name, "a list of token ids");
  out = std::move(*ids);
}

const json::array* json_fields::array(std::string_view name) {
  const auto* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) wrong(name, "a list");
  return value->if_array();
}

const json::object* json_fields::object(std::string_view name) {
  const auto* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) wrong(name, "an object");
  return value->if_object();
}

result<void> json_fields::done() const {
  if (problem_) return tl::unexpected(*problem_);
  return {};
}

std::vector<std::string> json_fields::unknown(std::size_t most) const {
  std::vector<std::string> out;
  for (const auto& field : object_) {
    const std::string_view name(field.key().data(), field.key().size());
    if (known_.contains(name)) continue;
    if (out.size() == most) break;
    out.emplace_back(name);
  }
  return out;
}

std::optional<std::vector<token_id>> as_token_ids(const json::array& list) {
  std::vector<token_id> out;
  out.reserve(list.size());
  for (const auto& item : list) {
    if (!item.is_int64()) return std::nullopt;
    const auto id = item.get_int64();
    if (id < 0 || id > std::numeric_limits<token_id>::max()) return std::nullopt;
    out.push_back(static_cast<token_id>(id));
  }
  return out;
}

}  // namespace dinfer::net
