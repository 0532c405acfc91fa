// SPDX-License-Identifier: Apache-2.0
// Template source to tokens, with white space trimmed as transformers asks for (trim_blocks,
// lstrip_blocks, no trailing newline). Pure function, any thread; throws template_error.
#pragma once

#include "runtime/tokenizer/template/error.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace dinfer::runtime::jinja {

struct token {
  enum class kind {
    data,  // text outside of tags
    output_begin,
    output_end,
    block_begin,
    block_end,
    name,
    string,  // with escapes resolved
    integer,
    number,
    sign,  // operator or bracket
    end,
  };
  kind what = kind::end;
  std::string text;
  position where;
};

// The last token is `end`.
std::vector<token> tokenize_template(std::string_view source);

}  // namespace dinfer::runtime::jinja
