// SPDX-License-Identifier: Apache-2.0
// The one place that asks which Catch2 the system has: 2 on Debian 12, 3 elsewhere.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#undef CATCH_CONFIG_MAIN  // version 3 brings its own main in Catch2::Catch2WithMain
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif
