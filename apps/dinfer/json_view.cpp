// SPDX-License-Identifier: Apache-2.0
// See json_view.hpp.
#include "apps/dinfer/json_view.hpp"

#include <boost/json.hpp>

#include <algorithm>

namespace dinfer::apps {

namespace {

const boost::json::value* value_of(const void* pointer) {
  return static_cast<const boost::json::value*>(pointer);
}

}  // namespace

json_view json_view::parse(std::string_view text) {
  boost::system::error_code broken;
  auto document = std::make_shared<const boost::json::value>(boost::json::parse(text, broken));
  json_view out;
  if (broken) return out;
  out.value_ = document.get();
  out.document_ = std::move(document);
  return out;
}

json_view json_view::operator[](std::string_view key) const {
  json_view out;
  const auto* value = value_of(value_);
  if (value == nullptr || !value->is_object()) return out;
  out.value_ = value->get_object().if_contains(key);
  out.document_ = document_;
  return out;
}

std::string json_view::text() const {
  const auto* value = value_of(value_);
  if (value == nullptr || !value->is_string()) return {};
  std::string out(value->get_string().begin(), value->get_string().end());
  std::replace_if(
      out.begin(), out.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return out;
}

std::uint64_t json_view::number() const {
  const auto* value = value_of(value_);
  if (value == nullptr) return 0;
  if (value->is_uint64()) return value->get_uint64();
  if (value->is_int64() && value->get_int64() > 0)
    return static_cast<std::uint64_t>(value->get_int64());
  return 0;
}

bool json_view::truth() const {
  const auto* value = value_of(value_);
  return value != nullptr && value->is_bool() && value->get_bool();
}

std::vector<json_view> json_view::items() const {
  std::vector<json_view> out;
  const auto* value = value_of(value_);
  if (value == nullptr || !value->is_array()) return out;
  for (const auto& item : value->get_array()) {
    out.emplace_back();
    out.back().document_ = document_;
    out.back().value_ = &item;
  }
  return out;
}

}  // namespace dinfer::apps
