// SPDX-License-Identifier: Apache-2.0
// The filters, tests, methods and functions that templates may use. Names are checked when a
// template is parsed; the rest runs inside one evaluator. Throws template_error.
#pragma once

#include "runtime/tokenizer/template/evaluator.hpp"

#include <string_view>

namespace dinfer::runtime::jinja {

bool known_filter(std::string_view name) noexcept;
bool known_test(std::string_view name) noexcept;
bool known_function(std::string_view name) noexcept;
bool known_method(const value& object, std::string_view name) noexcept;

value apply_filter(evaluator& e, std::string_view name, const value& input, const arguments& with);
bool apply_test(evaluator& e, std::string_view name, const value& input, const arguments& with);
value call_function(evaluator& e, std::string_view name, const arguments& with);
value call_method(evaluator& e, const value& object, std::string_view name, const arguments& with);

}  // namespace dinfer::runtime::jinja
