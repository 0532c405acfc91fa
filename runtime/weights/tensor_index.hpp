// SPDX-License-Identifier: Apache-2.0
// Tensors of a source by name. Used by the sources of this folder; thread: const calls from any.
#pragma once

#include "runtime/weights/source.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

class tensor_index {
 public:
  tensor_index(const tensor_index&) = delete;
  tensor_index& operator=(const tensor_index&) = delete;
  // `tensors` stay where they are as long as this is asked.
  explicit tensor_index(const std::vector<stored_tensor>& tensors) {
    by_name_.reserve(tensors.size());
    for (const stored_tensor& t : tensors) by_name_.push_back(&t);
    std::sort(by_name_.begin(), by_name_.end(),
              [](const stored_tensor* a, const stored_tensor* b) { return a->name < b->name; });
  }

  const stored_tensor* find(std::string_view name) const noexcept {
    const auto at =
        std::lower_bound(by_name_.begin(), by_name_.end(), name,
                         [](const stored_tensor* t, std::string_view n) { return t->name < n; });
    return at != by_name_.end() && (*at)->name == name ? *at : nullptr;
  }

  // A name that stands twice, or null.
  const std::string* duplicate() const noexcept {
    const auto twice = std::adjacent_find(
        by_name_.begin(), by_name_.end(),
        [](const stored_tensor* a, const stored_tensor* b) { return a->name == b->name; });
    return twice == by_name_.end() ? nullptr : &(*twice)->name;
  }

 private:
  std::vector<const stored_tensor*> by_name_;
};

}  // namespace dinfer::runtime
