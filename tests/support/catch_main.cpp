// SPDX-License-Identifier: Apache-2.0
// The test runner's main, compiled once for all rooms.
#define CATCH_CONFIG_MAIN
#include "tests/support/catch.hpp"
