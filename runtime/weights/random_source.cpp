// SPDX-License-Identifier: Apache-2.0
// Names, shapes, seeds and steps of made-up tensors. Steps are chosen so that activations keep
// their size over many layers and that greedy answers differ: a matrix has a standard deviation of
// about 1 / sqrt(columns), an embedding one of about 1, gains are close to 1.
#include "runtime/weights/random_source.hpp"

#include "runtime/base/mapped_file.hpp"
#include "runtime/models/config_json.hpp"
#include "runtime/models/model.hpp"
#include "runtime/models/quantization_config.hpp"
#include "runtime/weights/fingerprint.hpp"
#include "runtime/weights/tensor_index.hpp"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>

namespace dinfer::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t largest_file = 1 << 20;

// FNV-1a (Fowler, Noll, Vo) over the model's seed and the tensor's name.
std::uint64_t seed_of(std::uint64_t model, std::string_view name) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  const auto add = [&hash](std::uint64_t byte) { hash = (hash ^ byte) * 0x100000001B3ULL; };
  for (int shift = 0; shift < 64; shift += 8) add(model >> shift & 0xFF);
  for (const char c : name) add(static_cast<unsigned char>(c));
  return hash;
}

// A power of two, so that every float type holds k * step exactly.
float step_for(double deviation) noexcept {
  const double of_k = std::sqrt((255.0 * 255.0 - 1) / 12);  // k is uniform in -127..127
  return static_cast<float>(std::exp2(std::round(std::log2(deviation / of_k))));
}

// A matrix keeps the size of what it multiplies; an embedding gives its tokens size 1, unless it is
// the head too: a tied head with such rows would draw the last token for ever.
stored_tensor made_up(const model_tensor& tensor, bool tied, std::uint64_t seed) {
  const bool vector = tensor.role == kernels::weight_role::vector;
  const bool table = tensor.role == kernels::weight_role::embedding && !tied;
  const bool bias = tensor.name.ends_with(".bias");
  const double deviation = table ? 1.0 : 1 / std::sqrt(static_cast<double>(tensor.shape.back()));
  stored_tensor out;
  out.name = tensor.name;
  out.type = vector ? kernels::dtype::f32 : kernels::dtype::bf16;
  out.shape = tensor.shape;
  out.made_up = {seed_of(seed, tensor.name), vector ? 0x1p-10F : step_for(deviation),
                 vector && !bias ? 1.0F : 0.0F};
  return out;
}

result<std::vector<stored_tensor>> tensors_of(const model_shape& shape, std::uint64_t seed) {
  DINFER_TRY(const model_factory* factory, find_model(shape.architecture));
  DINFER_TRY(const auto wanted, factory->tensors(shape));
  std::vector<stored_tensor> out;
  for (const model_tensor& tensor : wanted)
    out.push_back(made_up(tensor, shape.tied_embeddings, seed));
  return out;
}

// "models/llama-3.1-8b/config.json" is "llama-3.1-8b".
std::string name_of(const std::string& file) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(file, ignored).lexically_normal();
  const std::string folder = whole.parent_path().filename().string();
  return folder.empty() ? whole.stem().string() : folder;
}

class random_source final : public weight_source {
 public:
  random_source(std::string text, std::string name, std::uint64_t seed,
                std::vector<stored_tensor> tensors)
      : text_(std::move(text)),
        name_(std::move(name)),
        seed_(seed),
        tensors_(std::move(tensors)),
        by_name_(tensors_) {}

  const std::vector<stored_tensor>& tensors() const noexcept override { return tensors_; }
  const stored_tensor* find(std::string_view name) const noexcept override {
    return by_name_.find(name);
  }
  std::optional<std::string_view> text(std::string_view key) const override {
    if (key == config_json_key) return text_;
    if (key == model_name_key) return name_;
    return std::nullopt;
  }
  std::string_view format() const noexcept override { return config_json_key; }
  std::uint64_t file_bytes() const noexcept override { return text_.size(); }
  std::string fingerprint(bool /*full*/) const override {
    const std::string all = fmt::format("{}\nmade up 1, seed {}\n", text_, seed_);
    return fingerprint_of(std::as_bytes(std::span(all)), 0, true);
  }

 private:
  std::string text_, name_;
  std::uint64_t seed_;
  std::vector<stored_tensor> tensors_;
  tensor_index by_name_;
};

}  // namespace

result<std::unique_ptr<weight_source>> parse_random(std::string_view text, const std::string& file,
                                                    std::uint64_t seed) {
  const std::string name = name_of(file);
  DINFER_TRY(const model_shape shape, parse_config_json(text, file, name));
  DINFER_TRY(const auto how, read_quantization(text, file));
  if (how.method != quant_method::none)
    return fail(errc::unsupported,
                file +
                    ": quantization_config: made-up weights are not quantised; a file without it "
                    "fits",
                "quantization_config");
  DINFER_TRY(auto tensors, tensors_of(shape, seed));
  return std::make_unique<random_source>(std::string(text), name, seed, std::move(tensors));
}

result<std::unique_ptr<weight_source>> open_random(const std::string& path, std::uint64_t seed) {
  if (path.empty())
    return fail(errc::invalid_argument,
                "model.path is empty; with format = \"random\" it names a config.json",
                "model.path");
  std::error_code problem;
  const bool folder = fs::is_directory(path, problem);
  const std::string file = folder ? (fs::path(path) / "config.json").string() : path;
  if (folder && !fs::exists(file, problem))
    return fail(errc::not_found, path + ": the directory holds no config.json", path);
  DINFER_TRY(const auto mapped, mapped_file::open(file));
  const auto bytes = mapped.bytes();
  if (bytes.size() > largest_file)
    return fail(errc::bad_file,
                fmt::format("{}: has {} bytes; a config.json has at most 1 MB", file, bytes.size()),
                file);
  return parse_random({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file, seed);
}

}  // namespace dinfer::runtime
