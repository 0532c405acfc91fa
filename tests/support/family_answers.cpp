// SPDX-License-Identifier: Apache-2.0
// Reads the stored answers. Any thread.
#include "tests/support/family_answers.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"

#include <simdjson.h>

#include <filesystem>
#include <utility>

namespace dinfer::tests {
namespace {

simdjson::padded_string golden(const std::string& file) {
  auto text = simdjson::padded_string::load(repository_file("tests/golden/" + file));
  REQUIRE(text.error() == simdjson::SUCCESS);
  return std::move(text).value_unsafe();
}

std::string existing(const std::string& path, const char* script) {
  INFO(path << ": ctest makes it, through tests/reference/" << script);
  REQUIRE(std::filesystem::exists(path));
  return path;
}

}  // namespace

std::vector<family_answer> family_answers(const std::string& family, const std::string& file) {
  const auto ids = [](simdjson::ondemand::array array) {
    std::vector<token_id> out;
    for (auto value : array) out.push_back(static_cast<token_id>(std::int64_t(value)));
    return out;
  };
  const auto text = golden(file);
  simdjson::ondemand::parser parser;
  auto document = parser.iterate(text);
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

std::vector<matrix_element> quantised_elements(const std::string& kind) {
  const auto text = golden("quantised.json");
  simdjson::ondemand::parser parser;
  auto document = parser.iterate(text);
  std::vector<matrix_element> out;
  for (simdjson::ondemand::array one : document["elements"][kind].get_array()) {
    matrix_element e;
    auto at = one.begin();
    e.tensor = std::string(std::string_view(*at));
    e.row = std::int64_t(*++at);
    e.column = std::int64_t(*++at);
    e.value = double(*++at);
    ++at;
    out.push_back(std::move(e));
  }
  REQUIRE_FALSE(out.empty());
  return out;
}

std::string checkpoint_path(const std::string& below) {
  return existing(std::string(DINFER_FAMILY_CHECKPOINTS) + "/" + below, "family_checkpoints.py");
}

std::string quantised_path(const std::string& kind) {
  return existing(std::string(DINFER_QUANTISED_CHECKPOINTS) + "/" + kind,
                  "quantised_checkpoints.py");
}

}  // namespace dinfer::tests
