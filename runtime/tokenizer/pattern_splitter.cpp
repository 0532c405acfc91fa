// SPDX-License-Identifier: Apache-2.0
// PCRE2 with its just-in-time compiler where the machine allows one, else its interpreter: the same
// matches. The text was validated before, so PCRE2 need not look again; PCRE2_MATCH_INVALID_UTF
// stays off, as with it every match would scan the text from its start. Any thread: match data is
// made for each call.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/tokenizer/pattern_splitter.hpp"

#include "dinfer/error.hpp"

#include <pcre2.h>

#include <cstdint>

namespace dinfer::runtime {

namespace {

constexpr std::uint32_t match_limit = 20'000'000;
constexpr std::uint32_t heap_limit_kib = 65'536;
constexpr std::size_t jit_stack_start = 32'768;
constexpr std::size_t jit_stack_max = std::size_t{8} << 20;

template <auto Free>
struct freed {
  template <class T>
  void operator()(T* p) const noexcept {
    Free(p);
  }
};
using code_ptr = std::unique_ptr<pcre2_code, freed<&pcre2_code_free>>;
using context_ptr = std::unique_ptr<pcre2_match_context, freed<&pcre2_match_context_free>>;
using data_ptr = std::unique_ptr<pcre2_match_data, freed<&pcre2_match_data_free>>;
using stack_ptr = std::unique_ptr<pcre2_jit_stack, freed<&pcre2_jit_stack_free>>;

}  // namespace

struct pattern_splitter::compiled {
  code_ptr code;

  explicit compiled(std::string_view pattern) {
    int error = 0;
    PCRE2_SIZE where = 0;
    code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &where, nullptr));
    DINFER_ASSERT(code != nullptr);
    // Refused where no memory may be made executable; the interpreter serves then.
    (void)pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  }

  void split(std::string_view text, pcre2_match_context* context,
             std::vector<std::string_view>& words) const {
    const data_ptr match(pcre2_match_data_create_from_pattern(code.get(), nullptr));
    DINFER_ASSERT(match != nullptr);
    std::size_t done = 0;  // text before it is in words
    while (done < text.size()) {
      const int count =
          pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), done,
                      PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match.get(), context);
      if (count <= 0) break;
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
      if (range[0] > done) words.push_back(text.substr(done, range[0] - done));
      words.push_back(text.substr(range[0], range[1] - range[0]));
      done = range[1];
    }
    if (done < text.size()) words.push_back(text.substr(done));
  }
};

pattern_splitter::pattern_splitter(std::span<const std::string_view> patterns) {
  for (const std::string_view pattern : patterns)
    stages_.push_back(std::make_unique<compiled>(pattern));
}

pattern_splitter::~pattern_splitter() = default;

void pattern_splitter::split(std::string_view text, std::vector<std::string_view>& words) const {
  const context_ptr context(pcre2_match_context_create(nullptr));
  const stack_ptr stack(pcre2_jit_stack_create(jit_stack_start, jit_stack_max, nullptr));
  DINFER_ASSERT(context != nullptr);
  pcre2_set_match_limit(context.get(), match_limit);
  pcre2_set_heap_limit(context.get(), heap_limit_kib);
  if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  std::vector<std::string_view> before{text}, after;
  for (const auto& stage : stages_) {
    after.clear();
    for (const std::string_view part : before) stage->split(part, context.get(), after);
    before.swap(after);
  }
  words.insert(words.end(), before.begin(), before.end());
}

}  // namespace dinfer::runtime
