// SPDX-License-Identifier: Apache-2.0
// Folders of checkpoints: which files make up a model, under which names, and what nodes compare.
#include "runtime/weights/safetensors.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"
#include "tests/support/safetensors_writer.hpp"
#include "tests/support/temporary_folder.hpp"

#include <filesystem>
#include <set>

namespace dinfer::tests {
namespace {

using runtime::open_weights;
using shape_of = std::vector<std::int64_t>;

const std::string llama_config = R"({"architectures":["LlamaForCausalLM"],"model_type":"llama"})";
const std::vector<float> some{1, 2, 3, 4, 5, 6};
const std::vector<float> others{7, 8, 9};

std::string message(const std::string& path, load_format format = load_format::automatic) {
  const auto source = open_weights(path, format);
  REQUIRE_FALSE(source);
  return source.error().message;
}

std::string index_of(const std::vector<std::pair<std::string, std::string>>& map) {
  std::string out;
  for (const auto& [tensor, file] : map)
    out += (out.empty() ? "\"" : ",\"") + tensor + "\":\"" + file + '"';
  return R"({"metadata":{"total_size":36},"weight_map":{)" + out + "}}";
}

void write_whole(const temporary_folder& folder) {
  folder.write("config.json", llama_config);
  folder.write("model.safetensors", safetensors_writer()
                                        .tensor("model.embed_tokens.weight", {3, 2}, some)
                                        .tensor("model.layers.0.self_attn.q_proj.bias", {3}, others)
                                        .file());
}

void write_shards(const temporary_folder& folder) {
  folder.write("config.json", llama_config);
  folder.write(
      "a.safetensors",
      safetensors_writer().tensor("model.layers.0.self_attn.q_proj.bias", {3}, others).file());
  folder.write("b.safetensors",
               safetensors_writer().tensor("model.embed_tokens.weight", {3, 2}, some).file());
  folder.write("model.safetensors.index.json",
               index_of({{"model.embed_tokens.weight", "b.safetensors"},
                         {"model.layers.0.self_attn.q_proj.bias", "a.safetensors"}}));
}

void check_model(const runtime::weight_source& source) {
  REQUIRE(source.tensors().size() == 2);
  const auto* table = source.find("token_embd.weight");
  const auto* bias = source.find("blk.0.attn_q.bias");
  REQUIRE(table != nullptr);
  REQUIRE(bias != nullptr);
  CHECK(table->type == kernels::dtype::f32);
  CHECK(table->shape == shape_of{3, 2});
  CHECK(bias->shape == shape_of{3});
  REQUIRE(table->data.size() == 24);
  REQUIRE(bias->data.size() == 12);
  CHECK(std::memcmp(table->data.data(), some.data(), 24) == 0);
  CHECK(std::memcmp(bias->data.data(), others.data(), 12) == 0);
  CHECK(source.find("model.embed_tokens.weight") == nullptr);
  CHECK(source.format() == "safetensors");
  CHECK(source.text("config.json") == llama_config);
  CHECK_FALSE(source.text("general.architecture"));
  CHECK_FALSE(source.integer("config.json"));
}

}  // namespace

TEST_CASE("one file and shards of a model give the same tensors", "[weights][safetensors]") {
  const temporary_folder one, many;
  write_whole(one);
  write_shards(many);
  for (const auto& path : {one.path(""), one.path("model.safetensors"), many.path(""),
                           many.path("model.safetensors.index.json")}) {
    INFO(path);
    const auto source = open_weights(path);
    REQUIRE(source);
    check_model(**source);
  }
  const auto whole = open_weights(one.path(""));
  CHECK((*whole)->file_bytes() == std::filesystem::file_size(one.path("model.safetensors")));
  CHECK_FALSE((*whole)->text("generation_config.json"));
  one.write("generation_config.json", "{}");
  CHECK((*open_weights(one.path("")))->text("generation_config.json") == "{}");
}

TEST_CASE("a folder of links into blobs is a model, named after the cache's folder",
          "[weights][safetensors]") {
  namespace fs = std::filesystem;
  const temporary_folder cache;
  const fs::path model = cache.path("models--org--some-model");
  fs::create_directories(model / "blobs");
  fs::create_directories(model / "snapshots" / "c0ffee");
  const temporary_folder made;
  write_shards(made);
  int blob = 0;
  for (const std::string name :
       {"config.json", "a.safetensors", "b.safetensors", "model.safetensors.index.json"}) {
    const std::string target = std::to_string(++blob);
    fs::copy_file(made.path(name), model / "blobs" / target);
    fs::create_symlink("../../blobs/" + target, model / "snapshots" / "c0ffee" / name);
  }
  for (const auto& path : {model / "snapshots" / "c0ffee", model / "snapshots" / "c0ffee" / "",
                           model / "snapshots" / "c0ffee" / "model.safetensors.index.json"}) {
    const auto source = open_weights(path.string());
    REQUIRE(source);
    check_model(**source);
    CHECK((*source)->text("general.name") == "some-model");
  }
}

TEST_CASE("gpt2's matrices are said to be transposed and its buffers are left out",
          "[weights][safetensors]") {
  const temporary_folder folder;
  folder.write("config.json", R"({"architectures":["GPT2Model"],"model_type":"gpt2"})");
  const std::vector<std::byte> mask(4);
  folder.write("model.safetensors", safetensors_writer()
                                        .tensor("h.0.attn.c_attn.weight", {2, 3}, some)
                                        .tensor("h.0.attn.c_attn.bias", {3}, others)
                                        .tensor("h.0.attn.bias", "BOOL", {1, 1, 2, 2}, mask)
                                        .file());
  const auto source = open_weights(folder.path(""));
  REQUIRE(source);
  REQUIRE((*source)->tensors().size() == 2);
  const auto* matrix = (*source)->find("blk.0.attn_qkv.weight");
  REQUIRE(matrix != nullptr);
  CHECK(matrix->shape == shape_of{3, 2});
  CHECK(matrix->transposed);
  CHECK_FALSE((*source)->find("blk.0.attn_qkv.bias")->transposed);
}

TEST_CASE("a folder that holds more than one model says so", "[weights][safetensors]") {
  using Catch::Matchers::Contains;
  const temporary_folder folder;
  CHECK_THAT(message(folder.path("")), Contains("holds no .gguf and no .safetensors file"));
  write_whole(folder);
  gguf_writer().set("one", 1).write(folder.path("a.gguf"));
  CHECK_THAT(message(folder.path("")),
             Contains("holds 1 .gguf file and a safetensors checkpoint; name one: a.gguf, "
                      "model.safetensors"));
  CHECK(open_weights(folder.path(""), load_format::gguf));
  CHECK(open_weights(folder.path("model.safetensors")));
  std::filesystem::remove(folder.path("a.gguf"));
  CHECK(message(folder.path(""), load_format::gguf) ==
        folder.path("") + ": the directory holds no .gguf file");
  folder.write("model.safetensors.index.json", "{}");
  CHECK_THAT(message(folder.path("")), Contains("name one of them"));
  std::filesystem::remove(folder.path("model.safetensors.index.json"));
  std::filesystem::rename(folder.path("model.safetensors"), folder.path("x.safetensors"));
  CHECK(open_weights(folder.path("")));  // the only one
  folder.write("y.safetensors", "");
  CHECK_THAT(message(folder.path("")), Contains("no model.safetensors.index.json"));
  std::filesystem::remove(folder.path("config.json"));
  CHECK_THAT(message(folder.path("x.safetensors")), Contains("no config.json lies beside it"));
}

TEST_CASE("a fingerprint covers every file of a checkpoint", "[weights][safetensors]") {
  const temporary_folder folder;
  write_shards(folder);
  std::set<std::string> seen;
  const auto is_new = [&](bool full) {
    const auto source = open_weights(folder.path(""));
    REQUIRE(source);
    return seen.insert((*source)->fingerprint(full)).second;
  };
  CHECK(is_new(false));
  CHECK_FALSE(is_new(false));
  CHECK(is_new(true));  // of another kind
  folder.write("generation_config.json", "{}");
  CHECK(is_new(false));
  folder.write("config.json", llama_config + " ");
  CHECK(is_new(false));
  const std::vector<float> changed{7, 8, 10};
  folder.write(
      "a.safetensors",
      safetensors_writer().tensor("model.layers.0.self_attn.q_proj.bias", {3}, changed).file());
  CHECK(is_new(false));
}

}  // namespace dinfer::tests
