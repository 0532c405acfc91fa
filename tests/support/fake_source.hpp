// SPDX-License-Identifier: Apache-2.0
// A weight source that holds metadata alone, filled by a test. Not thread-safe while it is filled.
#pragma once

#include "runtime/weights/source.hpp"

#include <map>
#include <string>
#include <vector>

namespace dinfer::tests {

class fake_source final : public runtime::weight_source {
 public:
  std::map<std::string, std::int64_t, std::less<>> integer_values;
  std::map<std::string, bool, std::less<>> boolean_values;
  std::map<std::string, std::string, std::less<>> text_values;
  std::map<std::string, std::vector<std::int64_t>, std::less<>> integer_lists;

  void set_texts(const std::string& key, std::vector<std::string> values) {
    auto& list = lists_[key];
    list.owned = std::move(values);
    list.views.assign(list.owned.begin(), list.owned.end());
  }

  const std::vector<runtime::stored_tensor>& tensors() const noexcept override { return none_; }
  const runtime::stored_tensor* find(std::string_view) const noexcept override { return nullptr; }
  std::optional<std::int64_t> integer(std::string_view key) const override {
    return look(integer_values, key);
  }
  std::optional<double> number(std::string_view) const override { return std::nullopt; }
  std::optional<bool> boolean(std::string_view key) const override {
    return look(boolean_values, key);
  }
  std::optional<std::string_view> text(std::string_view key) const override {
    const auto found = text_values.find(key);
    if (found == text_values.end()) return std::nullopt;
    return found->second;
  }
  std::optional<std::span<const std::string_view>> texts(std::string_view key) const override {
    const auto found = lists_.find(key);
    if (found == lists_.end()) return std::nullopt;
    return found->second.views;
  }
  std::optional<std::vector<std::int64_t>> integers(std::string_view key) const override {
    return look(integer_lists, key);
  }
  std::optional<std::vector<double>> numbers(std::string_view) const override {
    return std::nullopt;
  }
  std::string_view format() const noexcept override { return "fake"; }
  std::uint64_t file_bytes() const noexcept override { return 0; }
  std::string fingerprint(bool) const override { return {}; }

 private:
  struct text_list {
    std::vector<std::string> owned;
    std::vector<std::string_view> views;
  };
  template <class Map>
  static std::optional<typename Map::mapped_type> look(const Map& map, std::string_view key) {
    const auto found = map.find(key);
    if (found == map.end()) return std::nullopt;
    return found->second;
  }

  std::map<std::string, text_list, std::less<>> lists_;
  std::vector<runtime::stored_tensor> none_;
};

}  // namespace dinfer::tests
