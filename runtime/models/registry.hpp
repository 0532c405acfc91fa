// SPDX-License-Identifier: Apache-2.0
// The models that are built in, one line each: a new one is declared here, defined in its own file
// and listed in registry.cpp.
#pragma once

#include "runtime/models/model.hpp"

namespace dinfer::runtime {

extern const model_factory gpt2_factory;
extern const model_factory llama_factory;
extern const model_factory opt_factory;
extern const model_factory qwen2_factory;

}  // namespace dinfer::runtime
