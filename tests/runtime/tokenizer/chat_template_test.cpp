// SPDX-License-Identifier: Apache-2.0
// Chat templates against PyPI's jinja2 (tests/reference/template_reference.py), the origin of every
// piece of a prompt, and what happens to hostile templates.
#include "runtime/tokenizer/chat_template.hpp"

#include "runtime/weights/source.hpp"
#include "tests/runtime/tokenizer/random_text.hpp"
#include "tests/support/allocation_meter.hpp"
#include "tests/support/catch.hpp"

#include <ctime>
#include <map>

using namespace dinfer;
using namespace dinfer::runtime;
using namespace dinfer::tests;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
constexpr double slower = 20;
#else
constexpr double slower = 1;
#endif

constexpr std::int64_t now = 1721999109;  // 2024-07-26 13:05:09 UTC

struct golden_case {
  std::string source, conversation;
  std::optional<std::string> expected;  // nullopt: the reference raised
};

struct golden_file {
  std::map<std::string, template_inputs> conversations;
  std::vector<golden_case> cases;
};

golden_file read_golden() {
  golden_file all;
  std::ifstream file(repository_file("tests/golden/chat_templates.txt"));
  std::string source, conversation;
  for (std::string line; std::getline(file, line);) {
    const std::string word = line.substr(0, line.find(' '));
    const std::string rest =
        word.size() < line.size() ? unescape(line.substr(word.size() + 1)) : "";
    if (word == "conversation") {
      conversation = rest.substr(0, rest.find(' '));
      template_inputs& inputs = all.conversations[conversation];
      inputs.add_generation_prompt = rest.ends_with('1');
      inputs.bos_token = "<s>";
      inputs.eos_token = "</s>";
      inputs.now_unix = now;
    } else if (word == "role") {
      all.conversations[conversation].messages.push_back({rest, {}, {}});
    } else if (word == "content") {
      all.conversations[conversation].messages.back().content = rest;
    } else if (word == "name") {
      all.conversations[conversation].messages.back().name = rest;
    } else if (word == "template") {
      source = rest;
    } else if (word == "with") {
      conversation = rest;
    } else if (word == "gives") {
      all.cases.push_back({source, conversation, rest});
    } else if (word == "error") {
      all.cases.push_back({source, conversation, std::nullopt});
    }
  }
  return all;
}

std::string whole(const std::vector<prompt_span>& spans) {
  std::string text;
  for (const prompt_span& span : spans) text += span.text;
  return text;
}

result<std::vector<prompt_span>> render(std::string_view source, const template_inputs& inputs) {
  auto parsed = chat_template::parse(source);
  if (!parsed) return tl::unexpected(parsed.error());
  return parsed->render(inputs);
}

template_inputs saying(std::string content) {
  template_inputs inputs;
  inputs.messages = {{"user", std::move(content), {}}};
  return inputs;
}

}  // namespace

TEST_CASE("templates give what the reference gives") {
  const golden_file golden = read_golden();
  REQUIRE(golden.conversations.size() == 6);
  REQUIRE(golden.cases.size() > 200);
  for (const golden_case& one : golden.cases) {
    INFO(one.source << "\nwith " << one.conversation);
    const auto spans = render(one.source, golden.conversations.at(one.conversation));
    if (!one.expected) {
      CHECK_FALSE(spans);
    } else {
      INFO((spans ? "" : spans.error().message));
      CHECK((spans ? whole(*spans) : "an error") == *one.expected);
    }
  }
}

TEST_CASE("the real model's template marks what users wrote") {
  const auto source = open_weights(model_path());
  REQUIRE(source);
  const auto text = (*source)->text("tokenizer.chat_template");
  REQUIRE(text);
  const auto spans = render(*text, saying("<|im_end|>"));
  REQUIRE(spans);
  REQUIRE(spans->size() == 5);
  CHECK((*spans)[1].text == "user");
  CHECK_FALSE((*spans)[1].literal);
  CHECK((*spans)[2].text == "\n");
  CHECK((*spans)[3].text == "<|im_end|>");
  CHECK_FALSE((*spans)[3].literal);
  CHECK((*spans)[4].text == "<|im_end|>\n<|im_start|>assistant\n");
  CHECK((*spans)[4].literal);
}

TEST_CASE("user text keeps its origin whatever is done to it") {
  // What is left of every literal letter is lower case here, of every user letter upper case.
  const std::string source = GENERATE(
      "{{ messages[0].content | trim }}", "a{{ ('b' + messages[0].content + 'c')[1:-1] }}",
      "{{ messages[0].content | replace('X', 'y') }}",
      "{{ messages[0].content.split('X') | join('z') }}",
      "{{ messages | map(attribute='content') | join }}", "{{ [messages[0].content] | tojson }}",
      "{% set x %}a{{ messages[0].content }}b{% endset %}{{ x.strip('a') }}",
      "{% macro f(x) %}q{{ x }}{% endmacro %}{{ f(messages[0].content) | trim }}",
      "{{ messages[0].content | indent(2, true) }}", "{{ messages[0].content[::-1] }}",
      "{{ 'a %' ~ messages[0].content ~ 'b' }}", "{{ messages[0].content * 2 }}",
      "{% for c in messages[0].content %}{{ c }}-{% endfor %}");
  const auto spans = render(source, saying("  AXB XC\n\"X  "));
  INFO(source);
  REQUIRE(spans);
  std::size_t letters = 0;
  for (const prompt_span& span : *spans)
    for (const char c : span.text) {
      if (c >= 'A' && c <= 'Z') CHECK_FALSE(span.literal);
      if (c >= 'a' && c <= 'z' && c != 'n') CHECK(span.literal);
      if (c >= 'A' && c <= 'Z') ++letters;
    }
  CHECK(letters >= 3);
}

TEST_CASE("errors say what and where") {
  const auto unknown = chat_template::parse("a\n  {% include 'x' %}");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == errc::unsupported);
  CHECK(unknown.error().message ==
        "chat template, line 2, column 3: the tag 'include' is not known");
  const auto filter = chat_template::parse("{{ x | nosuch }}");
  REQUIRE_FALSE(filter);
  CHECK(filter.error().message.find("'nosuch'") != std::string::npos);
  const auto raised = render("{{ raise_exception('roles must alternate') }}", {});
  REQUIRE_FALSE(raised);
  CHECK(raised.error().code == errc::invalid_argument);
  CHECK(raised.error().message == "roles must alternate");
  const auto missing = render("{{ a.b }}", {});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == errc::unsupported);
  CHECK(missing.error().message.find("'a' is undefined") != std::string::npos);
}

TEST_CASE("hostile templates end soon and in an error") {
  const auto repeat = [](std::string_view part, int times) {
    std::string all;
    for (int i = 0; i < times; ++i) all += part;
    return all;
  };
  const std::vector<std::string> sources{
      "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
      "{{ range(1000000000) }}",
      "{{ range(0, 9223372036854775807, 4611686018427387904)|list|length }}{{ range(10**9) }}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
      "{{ 'a' * 1000000000 }}",
      "{{ 'a' * 9223372036854775807 }}",
      "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% "
      "endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% "
      "endfor %}",
      "{% set ns = namespace(x=[]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% "
      "endfor %}{{ ns.x }}",
      "{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor "
      "%}",
      "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = ns.x|replace('a', ns.x "
      "+ 'a') %}{% endfor %}",
      "{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
      "{{ 'a'|indent(1000000000) }}",
      "{{ [1]|tojson(indent=1000000000) }}",
      "{{ 9223372036854775807 + 1 }}",
      "{{ 99999999999999999999 }}",
      repeat("(", 5000),
      "{{ " + repeat("[", 5000) + repeat("]", 5000) + " }}",
      "{{ " + repeat("not ", 5000) + "x }}",
      "{{ " + repeat("-", 5000) + "1 }}",
      "{{ 1" + repeat(" + 1", 100000) + " }}",
      "{{ x" + repeat("|trim", 5000) + " }}",
      "{{ x" + repeat(".a", 5000) + " }}",
      repeat("{% if 1 %}", 5000),
      repeat("{% for x in y %}", 5000),
      std::string(2'000'000, ' '),
      std::string(100'000, '{'),
      repeat("{{ 1 }}", 18'000),
      // Within the size that one value may have, again and again.
      "{% for i in range(9000) %}{% for j in range(9000) %}{% endfor %}{% endfor %}",
      "{% for i in range(9000) %}{% for j in range(9000) %}{{ j }}{% endfor %}{% endfor %}",
      "{% macro f(n) %}{% for i in range(9000) %}{{ f(n + 1) }}{% endfor %}{% endmacro %}{{ f(0) "
      "}}",
      "{% set ns = namespace(x=[]) %}{% for i in range(9000) %}{% set ns.x = ns.x + [i] %}{% "
      "endfor "
      "%}{{ ns.x }}{{ 1 / 0 }}",
      "{% set x = 'ab ' * 2000 %}" + repeat("{% for i in range(9000) %}{% set y = x[::-1] %}", 3) +
          repeat("{% endfor %}", 3),
      "{% set x = 'ab ' * 2000 %}{% for i in range(9000) %}{% for j in range(9000) %}{% set y = "
      "x[1:] %}{% endfor %}{% endfor %}",
      "{% set x = 'ab ' * 2000 %}{% for i in range(9000) %}{% for j in range(9000) %}{% set y = "
      "x.split() %}{% endfor %}{% endfor %}",
      "{% set x = 'ab ' * 2000 %}{% for i in range(9000) %}{% for j in range(9000) %}{% set y = "
      "x|title|upper|replace('A', 'bc')|trim %}{% endfor %}{% endfor %}",
      "{% set x = range(9000)|list %}{% for i in x %}{% if -1 in x %}{% endif %}{% endfor %}{{ 1/0 "
      "}}",
      "{% set x = range(9000)|list %}{% for i in x %}{% set y = x|sort(reverse=true) %}{% endfor "
      "%}",
      "{% set x = range(9000)|list %}{% for i in x %}{% set y = x|unique|list %}{% endfor %}",
      "{% set x = range(9000)|list %}{% for i in x %}{% set y = x|map('string')|join %}{% endfor "
      "%}",
      "{% set x = range(9000)|map('string')|list %}" + repeat("{% set y%}{{ x|join }}", 40) +
          repeat("{% endset %}", 40) + "{{ 1 / 0 }}",
      repeat("{% for a in range(9000) %}", 100) + repeat("{% endfor %}", 100),
      repeat("{% set x %}{{ 'a' * 7000 }}", 140) + repeat("{% endset %}", 140) + "{{ 1 / 0 }}",
      [&] {
        std::string many;
        for (int i = 0; i < 900; ++i) many += "{% set a" + std::to_string(i) + " = 'a' * 7000 %}";
        return many + "{{ 1 / 0 }}";
      }(),
  };
  for (const std::string& source : sources) {
    INFO(source.substr(0, 120));
    const std::clock_t before = std::clock();  // of this process: others may hold the cores
    const allocation_peak memory;
    const auto spans = render(source, {});
    const std::uint64_t held = memory.bytes();
    const auto took = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
    if (source[0] != '(') CHECK_FALSE(spans);
    CHECK(took < 0.1 * slower);
    CHECK(held < std::uint64_t{4} << 20);
  }
}

TEST_CASE("damaged templates end in an error or a text, never otherwise") {
  const golden_file golden = read_golden();
  split_mix rng(5);
  for (const golden_case& one : golden.cases) {
    for (int i = 0; i < 20; ++i) {
      std::string source = one.source;
      for (std::size_t n = 1 + rng.below(3); n > 0 && !source.empty(); --n) {
        const std::size_t at = rng.below(source.size());
        if (rng.below(2) == 0) source.erase(at, 1 + rng.below(4));
        else source.insert(at, 1, "{}%#-'|.()[]:,=~\\ \n\xFF"[rng.below(20)]);
      }
      const auto spans = render(source, golden.conversations.at(one.conversation));
      if (!spans) CHECK_FALSE(spans.error().message.empty());
    }
  }
}

TEST_CASE("invalid bytes in messages become replacement characters") {
  const auto spans = render("{{ messages[0].content }}", saying("a\xFF"));
  REQUIRE(spans);
  CHECK(whole(*spans) == "a\xEF\xBF\xBD");
}
