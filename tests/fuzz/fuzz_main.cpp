// SPDX-License-Identifier: Apache-2.0
// libFuzzer's entry. The variable DINFER_FUZZ_TARGET says which target runs, so that the processes
// that libFuzzer starts itself run the same; scripts/fuzz sets it.
#include "tests/fuzz/target.hpp"

#include <cstdio>
#include <cstdlib>

namespace {

const dinfer::fuzz::target& chosen() {
  const char* name = std::getenv("DINFER_FUZZ_TARGET");
  const auto* found = dinfer::fuzz::find_target(name != nullptr ? name : "");
  if (found != nullptr) return *found;
  std::fputs("DINFER_FUZZ_TARGET must name one of:", stderr);
  for (const auto& each : dinfer::fuzz::targets()) std::fprintf(stderr, " %s", each.name.data());
  std::fputs("\n", stderr);
  std::exit(2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto& which = chosen();
  dinfer::fuzz::run_bounded(which, {data, size});
  return 0;
}
