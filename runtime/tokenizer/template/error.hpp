// SPDX-License-Identifier: Apache-2.0
// How lexer, parser and evaluator give up: an exception that chat_template.cpp turns into a
// result. It never leaves this folder and its owner.
#pragma once

#include "dinfer/error.hpp"

#include <cstdint>
#include <string>
#include <utility>

namespace dinfer::runtime::jinja {

struct position {
  std::uint32_t line = 1, column = 1;
};

struct template_error {
  errc code;
  std::string message;
  position where;
};

[[noreturn]] inline void give_up(position where, std::string message,
                                 errc code = errc::unsupported) {
  throw template_error{code, std::move(message), where};
}

}  // namespace dinfer::runtime::jinja
