// SPDX-License-Identifier: Apache-2.0
// Truth, equality and order of values after Python's rules. One thread at a time.
#include "runtime/tokenizer/template/value.hpp"

#include "runtime/tokenizer/template/evaluator.hpp"

#include <algorithm>
#include <utility>

namespace dinfer::runtime::jinja {

namespace {

// The rendering that this thread is at.
thread_local value_memory* current = nullptr;

constexpr std::uint64_t plain_weight = 48, text_weight = 64;
constexpr std::uint64_t text_overhead = 160, container_overhead = 96, key_overhead = 96;

// What a value shares, with its place in the account.
template <class T>
struct counted : T {
  counted(T x, std::uint64_t cost) : T(std::move(x)), account(current), held_bytes(cost) {
    if (account != nullptr) account->live += held_bytes;
  }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() {
    if (account != nullptr) account->live -= held_bytes;
  }
  value_memory* account;
  std::uint64_t held_bytes;
};

template <class T>
std::shared_ptr<const T> shared(T x, std::uint64_t bytes) {
  return std::make_shared<const counted<T>>(std::move(x), bytes);
}

void contain(extent& outer, const value& v) noexcept {
  const extent inner = extent_of(v);
  outer.depth = std::max(outer.depth, inner.depth + 1);
  outer.weight += inner.weight;
}

}  // namespace

memory_scope::memory_scope(value_memory& account) noexcept
    : before_(std::exchange(current, &account)) {}
memory_scope::~memory_scope() { current = before_; }

value::value(text x) {
  const std::uint64_t bytes = text_overhead + x.size();
  held = shared(std::move(x), bytes);
}

value::value(list x) {
  x.size = {1, plain_weight};
  for (const value& item : x.items) contain(x.size, item);
  const std::uint64_t bytes = container_overhead + x.items.size() * sizeof(value);
  held = shared(std::move(x), bytes);
}

value::value(dict x) {
  x.size = {1, plain_weight};
  std::uint64_t bytes = container_overhead;
  for (const auto& [name, item] : x.items) {
    contain(x.size, item);
    x.size.weight += name.size();
    bytes += key_overhead + sizeof(value) + name.size();
  }
  held = shared(std::move(x), bytes);
}

const value* dict::find(std::string_view key) const noexcept {
  for (const auto& [name, held] : items)
    if (name.bytes() == key) return &held;
  return nullptr;
}

void dict::set(const text& key, value to) {
  for (auto& [name, held] : items)
    if (name.bytes() == key.bytes()) {
      held = std::move(to);
      return;
    }
  items.emplace_back(key, std::move(to));
}

bool truthy(const value& v) noexcept {
  if (v.is_undefined() || v.is_none()) return false;
  if (is_number(v)) return number_of(v) != 0;
  if (const text* s = v.string()) return s->size() > 0;
  if (const list* l = v.sequence()) return !l->items.empty();
  if (const dict* d = v.mapping()) return !d->items.empty();
  return true;
}

bool is_number(const value& v) noexcept {
  return v.as<bool>() || v.as<std::int64_t>() || v.as<double>();
}

double number_of(const value& v) noexcept {
  if (const bool* b = v.as<bool>()) return *b ? 1 : 0;
  if (const auto* i = v.as<std::int64_t>()) return static_cast<double>(*i);
  if (const double* d = v.as<double>()) return *d;
  return 0;
}

bool equal(const value& a, const value& b) noexcept {
  if (a.as<std::int64_t>() && b.as<std::int64_t>())
    return *a.as<std::int64_t>() == *b.as<std::int64_t>();
  if (is_number(a) && is_number(b)) return number_of(a) == number_of(b);
  if (a.held.index() != b.held.index()) return false;
  if (const text* s = a.string()) return s->bytes() == b.string()->bytes();
  if (const list* l = a.sequence())
    return l->tuple == b.sequence()->tuple &&
           std::equal(l->items.begin(), l->items.end(), b.sequence()->items.begin(),
                      b.sequence()->items.end(), equal);
  if (const dict* d = a.mapping()) {
    if (d->items.size() != b.mapping()->items.size()) return false;
    return std::all_of(d->items.begin(), d->items.end(), [&](const auto& item) {
      const value* other = b.mapping()->find(item.first.bytes());
      return other != nullptr && equal(item.second, *other);
    });
  }
  if (a.is_undefined() || a.is_none()) return true;
  if (auto* space = a.as<name_space*>()) return *space == *b.as<name_space*>();
  return *a.as<std::shared_ptr<const callable>>() == *b.as<std::shared_ptr<const callable>>();
}

int order(const value& a, const value& b) noexcept {
  constexpr int impossible = 2;
  const auto three_way = [](const auto& x, const auto& y) { return x < y ? -1 : y < x ? 1 : 0; };
  if (a.as<std::int64_t>() && b.as<std::int64_t>())
    return three_way(*a.as<std::int64_t>(), *b.as<std::int64_t>());
  if (is_number(a) && is_number(b)) return three_way(number_of(a), number_of(b));
  if (a.string() && b.string()) {
    const int c = a.string()->bytes().compare(b.string()->bytes());
    return c < 0 ? -1 : c > 0 ? 1 : 0;
  }
  if (!a.sequence() || !b.sequence()) return impossible;
  const auto &x = a.sequence()->items, &y = b.sequence()->items;
  for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i)
    if (!equal(x[i], y[i])) return order(x[i], y[i]);
  return three_way(x.size(), y.size());
}

const char* type_name(const value& v) noexcept {
  static constexpr const char* names[] = {"undefined", "None", "bool", "int",       "float",
                                          "str",       "list", "dict", "namespace", "function"};
  return names[v.held.index()];
}

extent extent_of(const value& v) noexcept {
  if (const list* l = v.sequence()) return l->size;
  if (const dict* d = v.mapping()) return d->size;
  if (const text* s = v.string()) return {0, s->size() + text_weight};
  return {0, plain_weight};
}

}  // namespace dinfer::runtime::jinja
