// SPDX-License-Identifier: Apache-2.0
// Sizes of models from headers alone, and what is said of files that do not fit their metadata.
#include "runtime/models/model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"
#include "tests/support/tiny_llama.hpp"

#include <numeric>
#include <utility>

using namespace dinfer;
using namespace dinfer::runtime;

namespace {

struct opened {
  std::unique_ptr<weight_source> source;
  model_shape shape;
  const model_factory* factory = nullptr;

  std::uint64_t sum_of_ranks(std::uint32_t tp, std::vector<std::uint32_t> stages) const {
    const auto layouts = lay_out(shape, tp, stages);
    REQUIRE(layouts);
    std::uint64_t sum = 0;
    for (const auto& l : *layouts) sum += factory->rank_bytes(shape, l, *source).value();
    return sum;
  }
};

opened open_model(const std::string& path) {
  opened o;
  auto source = open_weights(path);
  REQUIRE(source);
  o.source = std::move(*source);
  o.shape = read_model_shape(*o.source).value();
  o.factory = find_model(o.shape.architecture).value();
  return o;
}

std::uint64_t stored(const opened& o, const std::string& part) {
  std::uint64_t sum = 0;
  for (const auto& t : o.source->tensors())
    if (t.name.find(part) != std::string::npos) sum += t.data.size();
  return sum;
}

}  // namespace

TEST_CASE("an unknown architecture is refused by name") {
  const auto found = find_model("mamba");
  REQUIRE_FALSE(found);
  CHECK(found.error().code == errc::unsupported);
  CHECK_THAT(found.error().message, Catch::Contains("mamba") && Catch::Contains("llama"));
}

TEST_CASE("ranks together hold the file, and norms on every rank of a stage") {
  tests::tiny_llama_options options;
  options.tied = GENERATE(true, false);
  const tests::tiny_llama model(options);
  const opened o = open_model(model.path());
  const std::uint64_t all = stored(o, "");
  const std::uint64_t norms = stored(o, "norm");
  const std::uint64_t embedding = stored(o, "token_embd");
  CHECK(o.sum_of_ranks(1, {4}) == all);
  CHECK(o.sum_of_ranks(3, {4}) == all + 2 * norms);
  CHECK(o.sum_of_ranks(1, {2, 2}) == all + (options.tied ? embedding : 0));
  // Five ranks share three KV heads: two of them twice.
  const std::uint64_t kv_head = (stored(o, "attn_k.") + stored(o, "attn_v.")) / 3;
  CHECK(o.sum_of_ranks(5, {4}) == all + 4 * norms + 2 * kv_head);

  const auto estimate = o.factory->estimate(o.shape, *o.source);
  REQUIRE(estimate);
  const auto layers =
      std::accumulate(estimate->layer_bytes.begin(), estimate->layer_bytes.end(), std::uint64_t{0});
  CHECK(layers == stored(o, "blk."));
  CHECK(estimate->embedding_bytes == embedding);
  const std::uint64_t head =
      options.tied ? embedding : o.source->find("output.weight")->data.size();
  CHECK(estimate->head_bytes == stored(o, "output_norm") + head);
}

TEST_CASE("the ranks of the real model hold little more than one process would", "[model]") {
  const opened o = open_model(tests::model_path());
  const std::uint64_t one = o.sum_of_ranks(1, {30});
  CHECK(one == stored(o, ""));
  const std::uint64_t norms = stored(o, "norm");
  // Of three KV heads, one is read by both of two ranks, and each by three of nine.
  using row = std::pair<std::uint32_t, std::uint32_t>;
  for (const auto& [tp, kv_heads] : {row(2, 4), row(3, 3), row(9, 9)}) {
    const auto held = o.sum_of_ranks(tp, {30});
    CAPTURE(tp, held, one);
    const std::uint64_t kv = (kv_heads - 3) * (stored(o, "attn_k.") + stored(o, "attn_v.")) / 3;
    CHECK(held == one + (tp - 1) * norms + kv);
    if (tp <= 3) CHECK(static_cast<double>(held) <= 1.05 * static_cast<double>(one));
  }
  CHECK(o.sum_of_ranks(3, {16, 14}) == one + 2 * norms + stored(o, "token_embd"));
}
