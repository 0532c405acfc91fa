// SPDX-License-Identifier: Apache-2.0
// Slices of stored tensors: what they point at and what is refused.
#include "runtime/weights/partition.hpp"

#include "runtime/weights/gguf.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"

namespace dinfer::tests {

using kernels::dtype;
using namespace runtime;
using Catch::Matchers::Contains;

TEST_CASE("slices are rectangles of the stored tensor", "[weights]") {
  const std::vector<std::byte> blocks(std::size_t{4} * 3 * 20);
  const stored_tensor matrix{"m", dtype::q4_1, {4, 96}, blocks};

  const auto all = slice_all(matrix);
  REQUIRE(all);
  CHECK(all->data == blocks.data());
  CHECK(all->stored_columns == 96);
  CHECK(all->row_end == 4);
  CHECK(all->column_end == 96);
  CHECK(slice_bytes(*all) == blocks.size());

  const auto rows = slice_rows(matrix, {1, 3});
  REQUIRE(rows);
  CHECK(rows->data == blocks.data());
  CHECK(rows->row_begin == 1);
  CHECK(rows->row_end == 3);
  CHECK(rows->column_end == 96);
  CHECK(slice_bytes(*rows) == 2 * 60);

  const auto columns = slice_columns(matrix, {32, 96});
  REQUIRE(columns);
  CHECK(columns->row_end == 4);
  CHECK(columns->column_begin == 32);
  CHECK(columns->column_end == 96);
  CHECK(slice_bytes(*columns) == 4 * 40);

  const auto inside = slice_columns(matrix, {48, 64});  // cuts through a block
  REQUIRE(inside);
  CHECK(inside->column_begin == 48);
  CHECK(slice_bytes(*inside) == 4 * 20);
  CHECK(slice_bytes(*slice_columns(matrix, {31, 65})) == 4 * 60);

  const std::vector<std::byte> floats(20);
  const stored_tensor vector{"v", dtype::f32, {5}, floats};
  const auto one_row = slice_all(vector);
  REQUIRE(one_row);
  CHECK(one_row->row_end == 1);
  CHECK(one_row->stored_columns == 5);
  CHECK(slice_bytes(*slice_columns(vector, {1, 4})) == 12);
}

TEST_CASE("slices that cannot be taken are refused by name", "[weights]") {
  const std::vector<std::byte> blocks(std::size_t{4} * 3 * 20);
  const stored_tensor matrix{"blk.0.x", dtype::q4_1, {4, 96}, blocks};
  const auto message = [](const auto& slice) {
    REQUIRE_FALSE(slice);
    CHECK(slice.error().subject == "blk.0.x");
    return slice.error().message;
  };
  CHECK_THAT(message(slice_columns(matrix, {64, 128})), Contains("columns 64 to 128"));
  CHECK_THAT(message(slice_rows(matrix, {2, 5})), Contains("rows 2 to 5") && Contains("has 4"));
  CHECK_THAT(message(slice_rows(matrix, {2, 2})), Contains("rows 2 to 2"));
  CHECK_THAT(message(slice_rows(matrix, {-1, 2})), Contains("rows -1 to 2"));
  const stored_tensor cube{"blk.0.x", dtype::q4_1, {1, 4, 96}, blocks};
  CHECK_THAT(message(slice_all(cube)), Contains("3 dimensions"));
}

TEST_CASE("a required tensor has the shape that the model's sizes ask for", "[weights]") {
  const std::vector<float> values(6);
  const std::string file = gguf_writer().tensor("a", {2, 3}, values).file();
  const auto source = parse_gguf(std::as_bytes(std::span(file)), "t.gguf");
  REQUIRE(source);
  const auto found = require_tensor(**source, "a", {2, 3});
  REQUIRE(found);
  CHECK((*found)->name == "a");
  CHECK(require_tensor(**source, "a", {3, 2}).error().message ==
        "tensor a: has shape [2, 3]; the model's sizes ask for [3, 2]");
  CHECK(require_tensor(**source, "a", {6}).error().code == errc::bad_file);
  CHECK(require_tensor(**source, "b", {6}).error().message == "tensor b: is missing");
}

}  // namespace dinfer::tests
