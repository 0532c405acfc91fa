// SPDX-License-Identifier: Apache-2.0
// Chat templates: a parsed tree and, for each rendering, an evaluator of its own. The one place
// where the engine's exceptions end. Any thread.
#include "runtime/tokenizer/chat_template.hpp"

#include "runtime/tokenizer/template/evaluator.hpp"
#include "runtime/tokenizer/template/parser.hpp"
#include "runtime/tokenizer/utf8.hpp"

#include <fmt/format.h>

namespace dinfer::runtime {

namespace {

constexpr std::size_t max_source = std::size_t{128} << 10;

jinja::text valid(std::string_view bytes, bool literal) {
  std::string out;
  append_valid_utf8(out, bytes, true);
  return {out, literal};
}

jinja::value as_value(const chat_message& message) {
  jinja::dict out;
  const auto set = [&out](const char* name, std::string_view held) {
    out.set(jinja::text(name, true), valid(held, false));
  };
  set("role", message.role);
  set("content", message.content);
  if (!message.name.empty()) set("name", message.name);
  return out;
}

error as_error(const jinja::template_error& e) {
  if (e.code == errc::invalid_argument) return {e.code, e.message, "messages"};
  return {
      e.code,
      fmt::format("chat template, line {}, column {}: {}", e.where.line, e.where.column, e.message),
      "chat_template"};
}

std::vector<prompt_span> as_spans(const jinja::text& text) {
  std::vector<prompt_span> spans;
  std::size_t at = 0;
  for (const jinja::text::run& run : text.runs()) {
    spans.push_back({text.bytes().substr(at, run.end - at), run.literal});
    at = run.end;
  }
  return spans;
}

}  // namespace

struct chat_template::impl {
  jinja::node_ptr root;
};

chat_template::chat_template(std::unique_ptr<impl> p) : impl_(std::move(p)) {}
chat_template::chat_template(chat_template&&) noexcept = default;
chat_template& chat_template::operator=(chat_template&&) noexcept = default;
chat_template::~chat_template() = default;

result<chat_template> chat_template::parse(std::string_view source) {
  if (source.size() > max_source)
    return fail(
        errc::unsupported,
        fmt::format("a chat template of {} bytes; at most {} would fit", source.size(), max_source),
        "chat_template");
  try {
    std::string text;
    append_valid_utf8(text, source, true);
    auto made = std::make_unique<impl>();
    made->root = jinja::parse_template(text);
    return chat_template(std::move(made));
  } catch (const jinja::template_error& e) {
    return tl::unexpected(as_error(e));
  }
}

result<std::vector<prompt_span>> chat_template::render(const template_inputs& inputs) const {
  try {
    std::uint64_t bytes = 0;
    for (const chat_message& m : inputs.messages)
      bytes += m.role.size() + m.content.size() + m.name.size();
    jinja::evaluator run(jinja::limits::of(inputs.messages.size(), bytes), inputs.now_unix);
    jinja::list messages;
    for (const chat_message& message : inputs.messages) messages.items.push_back(as_value(message));
    run.set_global("messages", std::move(messages));
    run.set_global("add_generation_prompt", inputs.add_generation_prompt);
    run.set_global("bos_token", valid(inputs.bos_token, true));
    run.set_global("eos_token", valid(inputs.eos_token, true));
    run.set_global("tools", jinja::none{});
    run.set_global("documents", jinja::none{});
    return as_spans(run.run(*impl_->root));
  } catch (const jinja::template_error& e) {
    return tl::unexpected(as_error(e));
  }
}

}  // namespace dinfer::runtime
