// SPDX-License-Identifier: Apache-2.0
// Tokens to a syntax tree. Nesting is bounded, so whoever walks the tree may recurse. Pure, any
// thread; throws template_error with line and column.
#pragma once

#include "runtime/tokenizer/template/lexer.hpp"
#include "runtime/tokenizer/template/node.hpp"

#include <initializer_list>
#include <string_view>
#include <vector>

namespace dinfer::runtime::jinja {

inline constexpr std::uint32_t max_nesting = 150;

// What statements and expressions share: a place in the tokens.
class token_reader {
 public:
  explicit token_reader(std::vector<token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  const token& now() const { return tokens_[at_]; }
  const token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  token take();
  void replace_now(token with) { tokens_[at_] = std::move(with); }
  bool is(token::kind what, std::string_view text = {}) const;
  bool is_name(std::string_view text) const { return is(token::kind::name, text); }
  bool is_sign(std::string_view text) const { return is(token::kind::sign, text); }
  bool skip_name(std::string_view text);
  bool skip_sign(std::string_view text);
  void expect(token::kind what, std::string_view text, std::string_view wanted);
  void expect_sign(std::string_view text) { expect(token::kind::sign, text, text); }
  std::string expect_name();
  node_ptr make(node::kind what, position where, std::string name = {}) const;
  void add(node& parent, node_ptr kid) const;  // refuses trees that grow too high

  // Counts how deep the parser itself recurses.
  struct level {
    explicit level(token_reader& r);
    ~level() { --reader.depth_; }
    token_reader& reader;
  };

 private:
  std::vector<token> tokens_;
  std::size_t at_ = 0;
  std::uint32_t depth_ = 0;
};

class expression_parser : public token_reader {
 public:
  using token_reader::token_reader;

 protected:
  node_ptr expression(bool conditional = true);
  node_ptr tuple(bool conditional);  // one expression, or several with commas between
  node_ptr filters(node_ptr input);  // | name(...) | ...; the input may be the variable ""
  node_ptr target();                 // what `for` and `set` assign to
  node_ptr primary();

 private:
  node_ptr either();
  node_ptr both();
  node_ptr invert();
  node_ptr comparison();
  node_ptr sum();
  node_ptr join();
  node_ptr product();
  node_ptr power();
  node_ptr unary(bool with_filters);
  node_ptr postfix(node_ptr object);
  node_ptr subscript(node_ptr object);
  node_ptr filters_and_tests(node_ptr input);
  node_ptr filter(node_ptr input);
  node_ptr test(node_ptr input);
  node_ptr literal();
  node_ptr dictionary();
  void arguments(node& call);
  node_ptr binary(node::kind what, position where, std::string name, node_ptr left, node_ptr right);
};

node_ptr parse_template(std::string_view source);

}  // namespace dinfer::runtime::jinja
