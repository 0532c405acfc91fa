// SPDX-License-Identifier: Apache-2.0
// Marks what the shared libraries export: the functions of these headers, and nothing else of
// dinfer. Everything is compiled with hidden symbols, so a name that lacks the mark is found only
// in the static libraries.
#pragma once

#define DINFER_EXPORT __attribute__((visibility("default")))
