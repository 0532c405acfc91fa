// SPDX-License-Identifier: Apache-2.0
// A struct names its members once, in `static auto fields(auto& x, auto&& f)`; the wire, logs and
// tests read that. `fields` calls `f(type_name, named{"member", x.member}...)` and returns what `f`
// returns.
#pragma once

namespace dinfer {

template <class T>
struct named {
  const char* name;
  T& value;
};

template <class T>
named(const char*, T&) -> named<T>;

}  // namespace dinfer
