// SPDX-License-Identifier: Apache-2.0
// PCRE2 with its just-in-time compiler where the machine allows one, else its interpreter: the same
// matches. The text was validated before, so PCRE2 need not look again; PCRE2_MATCH_INVALID_UTF
// stays off, as with it every match would scan the text from its start. A file's pattern calls back
// at each of its items, and what it has moved over is counted: match limits alone count no scanning
// of single characters. Any thread.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/tokenizer/pattern.hpp"

#include "runtime/tokenizer/pattern_dialect.hpp"
#include "runtime/tokenizer/utf8.hpp"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>

namespace dinfer::runtime {

namespace {

constexpr std::uint32_t match_limit = 20'000'000;
constexpr std::uint32_t heap_limit_kib = 65'536;
constexpr std::size_t jit_stack_start = 32'768;
constexpr std::size_t jit_stack_max = std::size_t{8} << 20;
constexpr std::size_t max_expression = 4096;  // of a file
constexpr std::uint64_t work_base = 1'000'000, work_per_byte = 200;

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

// Work that is left, and where the matcher stood at the last item.
struct meter {
  std::uint64_t* left;
  std::size_t at = 0;
};

int count_work(pcre2_callout_block* block, void* data) {
  meter& m = *static_cast<meter*>(data);
  const std::size_t at = block->current_position;
  const std::uint64_t cost = 1 + (at > m.at ? at - m.at : m.at - at);
  m.at = at;
  if (cost > *m.left) {
    *m.left = 0;
    return PCRE2_ERROR_CALLOUT;
  }
  *m.left -= cost;
  return 0;
}

}  // namespace

struct pattern::compiled {
  code_ptr code;
  bool metered = false;

  // Null code where it does not compile.
  static compiled make(std::string_view expression, std::uint32_t options, std::string& problem) {
    int number = 0;
    PCRE2_SIZE where = 0;
    compiled out;
    out.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | options, &number,
                                 &where, nullptr));
    out.metered = (options & PCRE2_AUTO_CALLOUT) != 0;
    if (out.code == nullptr) {
      std::array<PCRE2_UCHAR, 256> text{};
      pcre2_get_error_message(number, text.data(), text.size());
      problem = fmt::format("{} at byte {}", reinterpret_cast<const char*>(text.data()), where);
      return out;
    }
    // Refused where no memory may be made executable; the interpreter serves then.
    (void)pcre2_jit_compile(out.code.get(), PCRE2_JIT_COMPLETE);
    return out;
  }
};

struct pattern_work::scratch {
  context_ptr context{pcre2_match_context_create(nullptr)};
  stack_ptr stack{pcre2_jit_stack_create(jit_stack_start, jit_stack_max, nullptr)};
  meter work;

  explicit scratch(std::uint64_t* left) : work{left} {
    DINFER_ASSERT(context != nullptr);
    pcre2_set_match_limit(context.get(), match_limit);
    pcre2_set_heap_limit(context.get(), heap_limit_kib);
    pcre2_set_callout(context.get(), count_work, &work);
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

pattern_work::pattern_work(std::size_t text_bytes)
    : left_(work_base + work_per_byte * std::min(text_bytes, std::size_t{1} << 40)) {}
pattern_work::~pattern_work() = default;

pattern::pattern(std::unique_ptr<const compiled> code) : code_(std::move(code)) {}
pattern::pattern(pattern&&) noexcept = default;
pattern& pattern::operator=(pattern&&) noexcept = default;
pattern::~pattern() = default;

pattern pattern::trusted(std::string_view expression) {
  std::string problem;
  auto made = compiled::make(expression, 0, problem);
  DINFER_ASSERT(made.code != nullptr);
  return pattern(std::make_unique<const compiled>(std::move(made)));
}

result<pattern> pattern::from_file(std::string_view expression) {
  if (expression.size() > max_expression)
    return fail(errc::unsupported, fmt::format("a regular expression of {} bytes; at most {} fit",
                                               expression.size(), max_expression));
  DINFER_TRY(const std::string ours, from_oniguruma(expression));
  std::string problem;
  // ^ and $ match at every line there.
  auto made =
      compiled::make(ours, PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT, problem);
  if (made.code == nullptr)
    return fail(errc::unsupported, "the regular expression does not compile: " + problem);
  return pattern(std::make_unique<const compiled>(std::move(made)));
}

void pattern::find_all(std::string_view text, pattern_work& work, std::vector<match>& out) const {
  if (!work.scratch_) work.scratch_ = std::make_unique<pattern_work::scratch>(&work.left_);
  const data_ptr data(pcre2_match_data_create_from_pattern(code_->code.get(), nullptr));
  DINFER_ASSERT(data != nullptr);
  std::size_t from = 0;
  std::size_t last_end = std::string_view::npos;
  while (from <= text.size() && !(code_->metered && work.left_ == 0)) {
    work.scratch_->work.at = from;
    const int count =
        pcre2_match(code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                    PCRE2_NO_UTF_CHECK, data.get(), work.scratch_->context.get());
    if (count <= 0) return;
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
    const match found{range[0], range[1]};
    if (found.begin < from || found.end < found.begin) return;  // \K may do that
    if (found.begin == found.end && found.end == last_end) {
      // An empty match right after the last one does not count: look one character further on.
      if (from >= text.size()) return;
      from += utf8_next(text.substr(from)).size;
      continue;
    }
    out.push_back(found);
    from = last_end = found.end;
  }
}

}  // namespace dinfer::runtime
