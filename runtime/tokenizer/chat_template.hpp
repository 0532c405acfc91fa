// SPDX-License-Identifier: Apache-2.0
// Renders a chat into a prompt with the model's own template, in an own subset of Jinja without
// reflection or I/O. Steps, depth and output are limited, so a hostile template ends in an error.
// Immutable after parse; render() from any thread.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/tokenizer/tokenizer.hpp"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime {

struct chat_message {
  std::string role;
  std::string content;
  std::string name;  // optional
};

struct template_inputs {
  std::vector<chat_message> messages;
  bool add_generation_prompt = true;
  std::string bos_token, eos_token;
  std::int64_t now_unix = 0;  // for strftime_now: the clock is injected
};

class chat_template {
 public:
  // Error: unsupported, with line and column of what is not known.
  static result<chat_template> parse(std::string_view source);
  chat_template(chat_template&&) noexcept;
  chat_template& operator=(chat_template&&) noexcept;
  ~chat_template();

  // Text that came from a message is a user span, all else literal. Errors: invalid_argument (the
  // template called raise_exception: its text), unsupported, timeout (limits).
  result<std::vector<prompt_span>> render(const template_inputs& inputs) const;

 private:
  struct impl;
  explicit chat_template(std::unique_ptr<impl> p);
  std::unique_ptr<impl> impl_;
};

}  // namespace dinfer::runtime
