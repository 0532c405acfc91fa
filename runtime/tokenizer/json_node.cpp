// SPDX-License-Identifier: Apache-2.0
// simdjson's document behind an interface of our own. One thread.
#include "runtime/tokenizer/json_node.hpp"

#include "runtime/base/mapped_file.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <bit>
#include <filesystem>

namespace dinfer::runtime {

namespace {

namespace dom = simdjson::dom;

constexpr std::size_t max_depth = 64;

static_assert(sizeof(dom::element) == 2 * sizeof(std::uint64_t));

std::array<std::uint64_t, 2> handle_of(dom::element e) {
  return std::bit_cast<std::array<std::uint64_t, 2>>(e);
}
dom::element element_of(const std::array<std::uint64_t, 2>& handle) {
  return std::bit_cast<dom::element>(handle);
}

std::string below(const std::string& place, std::string_view key) {
  key = key.substr(0, 64);  // hostile ones may be long
  return place.empty() ? std::string(key) : fmt::format("{}.{}", place, key);
}

}  // namespace

tl::unexpected<error> json_node::wrong(const std::string& why, errc code) const {
  if (place_.empty()) return fail(code, fmt::format("{}: {}", *file_, why), *file_);
  return fail(code, fmt::format("{}: {}: {}", *file_, place_, why), place_);
}

bool json_node::is_object() const noexcept { return element_of(value_).is_object(); }
bool json_node::is_array() const noexcept { return element_of(value_).is_array(); }
bool json_node::is_text() const noexcept { return element_of(value_).is_string(); }

std::size_t json_node::size() const noexcept {
  dom::array array;
  if (element_of(value_).get(array) == simdjson::SUCCESS) return array.size();
  dom::object object;
  return element_of(value_).get(object) == simdjson::SUCCESS ? object.size() : 0;
}

std::optional<json_node> json_node::find(std::string_view key) const {
  dom::object object;
  dom::element found;
  if (element_of(value_).get(object) != simdjson::SUCCESS ||
      object.at_key(key).get(found) != simdjson::SUCCESS || found.is_null())
    return std::nullopt;
  return json_node(handle_of(found), file_, below(place_, key));
}

result<json_node> json_node::need(std::string_view key) const {
  if (auto found = find(key)) return std::move(*found);
  return json_node(value_, file_, below(place_, key)).wrong("is missing");
}

result<std::string_view> json_node::text() const {
  std::string_view value;
  if (element_of(value_).get(value) != simdjson::SUCCESS) return wrong("is not a string");
  return value;
}

result<std::int64_t> json_node::integer() const {
  std::int64_t value = 0;
  if (element_of(value_).get(value) != simdjson::SUCCESS) return wrong("is not an integer");
  return value;
}

result<bool> json_node::boolean() const {
  bool value = false;
  if (element_of(value_).get(value) != simdjson::SUCCESS) return wrong("is neither true nor false");
  return value;
}

result<std::string_view> json_node::text(std::string_view key, std::string_view otherwise) const {
  const auto found = find(key);
  if (!found) return otherwise;
  return found->text();
}

result<bool> json_node::boolean(std::string_view key, bool otherwise) const {
  const auto found = find(key);
  if (!found) return otherwise;
  return found->boolean();
}

result<void> json_node::each(const element_use& use) const {
  dom::array array;
  if (element_of(value_).get(array) != simdjson::SUCCESS) return wrong("is not an array");
  std::size_t i = 0;
  for (const dom::element e : array)
    DINFER_CHECK(use(json_node(handle_of(e), file_, fmt::format("{}[{}]", place_, i++))));
  return {};
}

result<void> json_node::each_member(const member_use& use) const {
  dom::object object;
  if (element_of(value_).get(object) != simdjson::SUCCESS) return wrong("is not an object");
  for (const dom::key_value_pair member : object)
    DINFER_CHECK(
        use(member.key, json_node(handle_of(member.value), file_, below(place_, member.key))));
  return {};
}

struct json_file::impl {
  std::string name;
  dom::parser parser;
  dom::element root;
  std::size_t bytes = 0;
};

json_file::json_file(std::unique_ptr<impl> p) : impl_(std::move(p)) {}
json_file::json_file(json_file&&) noexcept = default;
json_file& json_file::operator=(json_file&&) noexcept = default;
json_file::~json_file() = default;

result<json_file> json_file::parse(std::string_view text, std::string name) {
  auto made = std::make_unique<impl>();
  made->name = std::move(name);
  made->bytes = text.size();
  auto problem = made->parser.allocate(text.size(), max_depth);
  if (!problem) problem = made->parser.parse(text.data(), text.size()).get(made->root);
  if (problem != simdjson::SUCCESS)
    return fail(errc::bad_file,
                fmt::format("{}: is not JSON: {}", made->name, simdjson::error_message(problem)),
                made->name);
  if (!made->root.is_object())
    return fail(errc::bad_file, made->name + ": is not a JSON object", made->name);
  return json_file(std::move(made));
}

result<json_file> json_file::open(const std::string& path, std::size_t most) {
  DINFER_TRY(const auto file, mapped_file::open(path));
  const auto bytes = file.bytes();
  if (bytes.size() > most)
    return fail(errc::bad_file,
                fmt::format("{}: has {} bytes; at most {} fit", path, bytes.size(), most), path);
  return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

json_node json_file::root() const { return json_node(handle_of(impl_->root), &impl_->name, ""); }
std::size_t json_file::bytes() const noexcept { return impl_->bytes; }

}  // namespace dinfer::runtime
