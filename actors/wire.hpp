// SPDX-License-Identifier: Apache-2.0
// Errors between the two vocabularies: dinfer::error keeps its code, text and subject when it
// crosses as a caf::error; what CAF itself reports (a timeout, a lost peer) becomes ours. Any
// thread.
#pragma once

#include "actors/seam.hpp"
#include "dinfer/error.hpp"

#include <string>

namespace dinfer::actors {

caf::error to_caf(const error& e);
error from_caf(const caf::error& e);
// How an error reads in a log line when it may be empty.
std::string text_of(const caf::error& e);

}  // namespace dinfer::actors
