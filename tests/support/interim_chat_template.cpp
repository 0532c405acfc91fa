// SPDX-License-Identifier: Apache-2.0
// Stands in for the chat template until the real one is part of the build: role, colon, content.
#include "runtime/tokenizer/chat_template.hpp"

namespace dinfer::runtime {

struct chat_template::impl {};

chat_template::chat_template(std::unique_ptr<impl> p) : impl_(std::move(p)) {}
chat_template::chat_template(chat_template&&) noexcept = default;
chat_template& chat_template::operator=(chat_template&&) noexcept = default;
chat_template::~chat_template() = default;

result<chat_template> chat_template::parse(std::string_view) {
  return chat_template(std::make_unique<impl>());
}

result<std::vector<prompt_span>> chat_template::render(const template_inputs& inputs) const {
  std::vector<prompt_span> out;
  for (const auto& m : inputs.messages) {
    out.push_back({m.role + ": ", true});
    out.push_back({m.content, false});
    out.push_back({"\n", true});
  }
  if (inputs.add_generation_prompt) out.push_back({"assistant: ", true});
  return out;
}

}  // namespace dinfer::runtime
