// SPDX-License-Identifier: Apache-2.0
#include "kernels/tensor.hpp"
#include "tests/support/catch.hpp"

using namespace dinfer::kernels;

TEST_CASE("row bytes of quantised types count whole blocks") {
  CHECK(row_bytes(dtype::q4_1, 576) == 18 * 20);
  CHECK(row_bytes(dtype::q8_0, 64) == 68);
  CHECK(row_bytes(dtype::bf16, 3) == 6);
  CHECK_FALSE(quantised(dtype::f16));
}
