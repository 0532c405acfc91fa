// SPDX-License-Identifier: Apache-2.0
// Finds a model by the architecture that its file names.
#include "runtime/models/registry.hpp"

#include <fmt/format.h>

#include <array>

namespace dinfer::runtime {
namespace {

constexpr std::array<const model_factory*, 4> factories{
    &llama_factory,
    &gpt2_factory,
    &opt_factory,
    &qwen2_factory,
};

}  // namespace

std::span<const model_factory* const> all_models() { return factories; }

result<const model_factory*> find_model(std::string_view architecture) {
  std::string known;
  for (const model_factory* f : factories) {
    if (f->architecture == architecture) return f;
    known += known.empty() ? "" : ", ";
    known += f->architecture;
  }
  return fail(
      errc::unsupported,
      fmt::format("architecture \"{}\" is not built in; this build knows: {}", architecture, known),
      "general.architecture");
}

}  // namespace dinfer::runtime
