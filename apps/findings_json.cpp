// SPDX-License-Identifier: Apache-2.0
// See findings_json.hpp.
#include "apps/findings_json.hpp"

#include <boost/json.hpp>

#include <cstddef>
#include <utility>

namespace dinfer::apps {

std::string findings_json(std::span<const runtime::finding> all) {
  constexpr const char* words[] = {"pass", "warn", "fail"};
  const auto word = [&](runtime::verdict is) { return words[static_cast<std::size_t>(is)]; };
  boost::json::array list;
  for (const auto& one : all) {
    boost::json::object entry{
        {"verdict", word(one.is)}, {"subject", one.subject}, {"figures", one.figures}};
    if (!one.remedy.empty()) entry["remedy"] = one.remedy;
    list.push_back(std::move(entry));
  }
  return boost::json::serialize(
      boost::json::object{{"verdict", word(runtime::worst(all))}, {"findings", std::move(list)}});
}

}  // namespace dinfer::apps
