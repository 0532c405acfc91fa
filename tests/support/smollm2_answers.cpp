// SPDX-License-Identifier: Apache-2.0
#include "tests/support/smollm2_answers.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"

#include <simdjson.h>

#include <utility>

namespace dinfer::tests {

std::vector<smollm2_answer> smollm2_answers(std::size_t count) {
  const auto ids = [](simdjson::ondemand::array array) {
    std::vector<token_id> out;
    for (auto value : array) out.push_back(static_cast<token_id>(std::int64_t(value)));
    return out;
  };
  const auto text =
      simdjson::padded_string::load(repository_file("tests/golden/smollm2_greedy.json"));
  REQUIRE(text.error() == simdjson::SUCCESS);
  simdjson::ondemand::parser parser;
  auto document = parser.iterate(text.value_unsafe());
  std::vector<smollm2_answer> answers;
  for (simdjson::ondemand::object c : document["prompts"].get_array()) {
    if (answers.size() == count) break;
    smollm2_answer a;
    a.prompt = ids(c["prompt_tokens"].get_array());
    a.tokens = ids(c["tokens"].get_array());
    for (auto value : c["logprobs"].get_array()) a.logprobs.push_back(double(value));
    answers.push_back(std::move(a));
  }
  REQUIRE(answers.size() == count);
  return answers;
}

}  // namespace dinfer::tests
