// SPDX-License-Identifier: Apache-2.0
// What a check or `dinfer doctor` found, for programs. Any thread.
#pragma once

#include "runtime/check/findings.hpp"

#include <span>
#include <string>

namespace dinfer::apps {

// {"verdict": the worst, "findings": [{"verdict", "subject", "figures", "remedy"}]}; what passes
// has no remedy.
std::string findings_json(std::span<const runtime::finding> all);

}  // namespace dinfer::apps
