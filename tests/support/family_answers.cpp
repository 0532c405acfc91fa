// SPDX-License-Identifier: Apache-2.0
// Reads the stored answers. Any thread.
#include "tests/support/family_answers.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"

#include <simdjson.h>

#include <filesystem>
#include <utility>

namespace dinfer::tests {

std::vector<family_answer> family_answers(const std::string& family) {
  const auto ids = [](simdjson::ondemand::array array) {
    std::vector<token_id> out;
    for (auto value : array) out.push_back(static_cast<token_id>(std::int64_t(value)));
    return out;
  };
  const auto text = simdjson::padded_string::load(repository_file("tests/golden/families.json"));
  REQUIRE(text.error() == simdjson::SUCCESS);
  simdjson::ondemand::parser parser;
  auto document = parser.iterate(text.value_unsafe());
  std::vector<family_answer> answers;
  for (simdjson::ondemand::object one : document["families"][family].get_array()) {
    family_answer a;
    a.prompt = ids(one["prompt"].get_array());
    a.tokens = ids(one["tokens"].get_array());
    answers.push_back(std::move(a));
  }
  REQUIRE_FALSE(answers.empty());
  return answers;
}

std::string checkpoint_path(const std::string& below) {
  const std::string path = std::string(DINFER_FAMILY_CHECKPOINTS) + "/" + below;
  INFO(path << ": ctest makes it, through tests/reference/family_checkpoints.py");
  REQUIRE(std::filesystem::exists(path));
  return path;
}

}  // namespace dinfer::tests
