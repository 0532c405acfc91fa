// SPDX-License-Identifier: Apache-2.0
// From a folder to a source: which files make up the model, what config.json calls its family, and
// the tensors of all files under the names that models ask for.
#include "runtime/weights/safetensors.hpp"

#include "runtime/base/log.hpp"
#include "runtime/base/mapped_file.hpp"
#include "runtime/weights/fingerprint.hpp"
#include "runtime/weights/gguf_metadata.hpp"
#include "runtime/weights/hf_names.hpp"
#include "runtime/weights/quantised_parts.hpp"
#include "runtime/weights/random_source.hpp"
#include "runtime/weights/tensor_index.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>

namespace dinfer::runtime {
namespace {

namespace fs = std::filesystem;
namespace dom = simdjson::dom;

constexpr std::string_view index_name = "model.safetensors.index.json";
constexpr std::string_view whole_name = "model.safetensors";
constexpr std::string_view generation_name = "generation_config.json";
constexpr std::size_t longest_file_name = 255;

tl::unexpected<error> wrong(const std::string& file, const std::string& why,
                            errc code = errc::bad_file) {
  return fail(code, fmt::format("{}: {}", file, why), file);
}

std::string_view text_of(const mapped_file& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// A JSON file of a folder whose tensors have `data_bytes`.
result<mapped_file> open_json(const fs::path& path, std::uint64_t data_bytes) {
  DINFER_TRY(auto file, mapped_file::open(path.string()));
  if (file.bytes().size() > most_json_bytes(data_bytes))
    return wrong(file.path(),
                 fmt::format("has {} bytes; beside {} bytes of tensors {} would fit",
                             file.bytes().size(), data_bytes, most_json_bytes(data_bytes)));
  return file;
}

result<dom::object> parse_object(dom::parser& parser, const mapped_file& file) {
  dom::object object;
  if (const auto problem = parser.parse(text_of(file).data(), text_of(file).size()).get(object);
      problem != simdjson::SUCCESS)
    return wrong(file.path(),
                 fmt::format("is not a JSON object: {}", simdjson::error_message(problem)));
  return object;
}

// All bytes that a folder's .safetensors files have.
std::uint64_t bytes_in(const fs::path& folder) {
  std::uint64_t sum = 0;
  std::error_code problem;
  for (fs::directory_iterator it(folder.empty() ? "." : folder, problem), end;
       !problem && it != end; it.increment(problem)) {
    std::error_code ignored;
    const auto size = it->path().extension() == ".safetensors" ? it->file_size(ignored) : 0;
    if (!ignored) sum += size;
  }
  return sum;
}

// Which tensor an index expects in which shard.
using weight_map = std::map<std::string, std::set<std::string>, std::less<>>;

result<weight_map> read_index(const fs::path& path) {
  DINFER_TRY(const auto file, open_json(path, bytes_in(path.parent_path())));
  dom::parser parser;
  DINFER_TRY(const dom::object root, parse_object(parser, file));
  dom::object map;
  if (root.at_key("weight_map").get(map) != simdjson::SUCCESS)
    return wrong(file.path(), "weight_map is missing or not an object");
  weight_map out;
  std::set<std::string_view> seen;
  for (const auto [tensor, value] : map) {
    std::string_view shard;
    const auto problem = value.get(shard);
    const bool plain = problem == simdjson::SUCCESS && printable_name(shard, longest_file_name) &&
                       shard.find('/') == shard.npos && shard.ends_with(".safetensors");
    const std::string_view name = printable_name(tensor, 256) ? tensor : "of an unprintable name";
    if (!plain)
      return wrong(file.path(), fmt::format("weight_map: tensor {}: is not in a .safetensors file "
                                            "of this folder",
                                            name));
    if (!seen.insert(tensor).second)
      return wrong(file.path(), fmt::format("weight_map: tensor {} stands twice", name));
    out[std::string(shard)].insert(std::string(tensor));
  }
  if (out.empty()) return wrong(file.path(), "weight_map is empty");
  return out;
}

// The family: architectures[0], or model_type where no table has the former ("GPT2Model").
result<std::string> architecture_of(const mapped_file& config) {
  dom::parser parser;
  DINFER_TRY(const dom::object root, parse_object(parser, config));
  const auto text = [](simdjson::simdjson_result<dom::element> found) {
    std::string_view value;
    return found.get(value) == simdjson::SUCCESS ? value : std::string_view();
  };
  const std::string_view name = text(root.at_key("architectures").at(0));
  const std::string_view type = text(root.at_key("model_type"));
  if (name.empty() && type.empty())
    return wrong(config.path(), "has neither architectures nor model_type");
  return std::string(name.empty() || (!has_hf_names(name) && has_hf_names(type)) ? type : name);
}

// "models/gpt2" is "gpt2"; in Hugging Face's cache, where folders of models hold snapshots,
// "models--Qwen--Qwen2-0.5B/snapshots/c291d6f" is "Qwen2-0.5B".
std::string name_of(const fs::path& folder) {
  std::error_code ignored;
  fs::path whole = fs::absolute(folder, ignored).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();
  if (whole.parent_path().filename() != "snapshots") return whole.filename().string();
  const std::string model = whole.parent_path().parent_path().filename().string();
  const std::size_t dashes = model.rfind("--");
  return dashes == model.npos ? model : model.substr(dashes + 2);
}

// A shard: its mapping and the length of its header.
struct shard {
  mapped_file file;
  std::size_t header_bytes;
};

struct parts {
  std::vector<shard> shards;
  std::vector<stored_tensor> tensors;
  std::optional<mapped_file> config, generation;
  std::string name;
};

// How a checkpoint names and stores its tensors.
struct conventions {
  std::string architecture;
  quantised_parts quantised;
};

class safetensors_source final : public weight_source {
 public:
  explicit safetensors_source(parts p) : parts_(std::move(p)), by_name_(parts_.tensors) {}

  const std::string* duplicate() const noexcept { return by_name_.duplicate(); }

  const std::vector<stored_tensor>& tensors() const noexcept override { return parts_.tensors; }
  const stored_tensor* find(std::string_view name) const noexcept override {
    return by_name_.find(name);
  }
  std::optional<std::string_view> text(std::string_view key) const override {
    if (key == config_json_key) return text_of(*parts_.config);
    if (key == generation_name && parts_.generation) return text_of(*parts_.generation);
    if (key == model_name_key) return parts_.name;
    return std::nullopt;
  }
  std::string_view format() const noexcept override { return "safetensors"; }
  std::uint64_t file_bytes() const noexcept override {
    std::uint64_t sum = 0;
    for (const shard& s : parts_.shards) sum += s.file.bytes().size();
    return sum;
  }
  std::string fingerprint(bool full) const override {
    std::string all;
    const auto add = [&](const mapped_file& file, std::size_t header, bool whole) {
      all += fmt::format("{} {} {}\n", fs::path(file.path()).filename().string(),
                         file.bytes().size(), fingerprint_of(file.bytes(), header, whole));
    };
    add(*parts_.config, 0, true);
    if (parts_.generation) add(*parts_.generation, 0, true);
    for (const shard& s : parts_.shards) add(s.file, s.header_bytes, full);
    return fingerprint_of(std::as_bytes(std::span(all)), 0, true);
  }

 private:
  parts parts_;
  tensor_index by_name_;
};

// A name of `expected` that is not among the entries, or null.
const std::string* missing(const std::set<std::string>& expected,
                           const std::vector<safetensors_entry>& entries) {
  std::set<std::string_view> there;
  for (const safetensors_entry& e : entries) there.insert(e.name);
  for (const std::string& name : expected)
    if (!there.contains(name)) return &name;
  return nullptr;
}

// Adds the tensors of one file; `expected`: names that the index has in it. What belongs to
// quantised matrices waits for the other files.
result<void> add_shard(const fs::path& path, const std::set<std::string>& expected,
                       conventions& with, parts& to) {
  DINFER_TRY(auto file, mapped_file::open(path.string()));
  DINFER_TRY(auto contents, parse_safetensors(file.bytes(), file.path()));
  if (const std::string* name = missing(expected, contents.entries))
    return wrong(file.path(),
                 fmt::format("tensor {} is missing, which {} has in this file", *name, index_name));
  for (safetensors_entry& e : contents.entries) {
    hf_name renamed = rename_hf(with.architecture, e.name);
    if (renamed.ignored) continue;
    DINFER_TRY(const bool taken, with.quantised.take(e, file.path()));
    if (taken) continue;
    if (!e.type)
      return wrong(
          file.path(),
          fmt::format("tensor {} has type {}; this build reads F32, F16 and BF16, and what "
                      "a quantization_config of config.json says more of",
                      e.name, e.stored_type),
          errc::unsupported);
    const bool transposed = renamed.transposed && e.shape.size() == 2;
    if (transposed) std::swap(e.shape.front(), e.shape.back());
    to.tensors.push_back(
        {std::move(renamed.name), *e.type, std::move(e.shape), e.data, {}, transposed, {}, {}});
  }
  to.shards.push_back({std::move(file), contents.header_bytes});
  return {};
}

// The matrices that all files hold parts of.
result<void> add_quantised(const conventions& with, const std::string& path, parts& to) {
  DINFER_TRY(auto matrices, with.quantised.matrices());
  for (stored_tensor& m : matrices) {
    const hf_name renamed = rename_hf(with.architecture, m.name);
    if (renamed.transposed && m.int4 == nullptr)  // words of 4-bit numbers are [out, in] everywhere
      return wrong(path, fmt::format("tensor {} is stored transposed in 8-bit floats", m.name),
                   errc::unsupported);
    m.name = renamed.name;
    to.tensors.push_back(std::move(m));
  }
  if (const std::size_t scales = with.quantised.left_out(); scales != 0)
    DINFER_LOG_INFO("{}: {} scales of activations, keys and values are not used", path, scales);
  return {};
}

// The file of a folder that makes up the model, or its index.
result<fs::path> model_file_of(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code problem;
  for (fs::directory_iterator it(folder, problem), end; !problem && it != end;
       it.increment(problem)) {
    const std::string name = it->path().filename().string();
    if (name == index_name || it->path().extension() == ".safetensors") names.push_back(name);
  }
  if (problem) return wrong(folder.string(), problem.message(), errc::io_error);
  const auto holds = [&](std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (holds(index_name) && holds(whole_name))
    return wrong(folder.string(),
                 fmt::format("holds {} and {}; name one of them", whole_name, index_name),
                 errc::invalid_argument);
  if (holds(index_name)) return folder / index_name;
  if (holds(whole_name)) return folder / whole_name;
  if (names.size() == 1) return folder / names.front();
  if (names.empty())
    return wrong(folder.string(), "the directory holds no .safetensors file", errc::not_found);
  return wrong(folder.string(),
               fmt::format("holds {} .safetensors files and no {}, which would say how they belong "
                           "together",
                           names.size(), index_name),
               errc::not_found);
}

}  // namespace

result<std::unique_ptr<weight_source>> open_safetensors(const std::string& path) {
  std::error_code problem;
  fs::path file = path;
  if (fs::is_directory(file, problem)) {
    DINFER_TRY(file, model_file_of(file));
  }
  const fs::path folder = file.parent_path();
  weight_map shards{{file.filename().string(), {}}};
  if (file.extension() == ".json") {
    DINFER_TRY(shards, read_index(file));
  }
  const fs::path config = folder / config_json_key;
  if (!fs::exists(config, problem))
    return wrong(file.string(), "no config.json lies beside it, which would say the model's shape",
                 errc::not_found);
  const std::uint64_t data_bytes = bytes_in(folder);
  parts all;
  DINFER_TRY(all.config, open_json(config, data_bytes));
  if (fs::exists(folder / generation_name, problem)) {
    DINFER_TRY(all.generation, open_json(folder / generation_name, data_bytes));
  }
  all.name = name_of(folder);
  DINFER_TRY(const auto architecture, architecture_of(*all.config));
  DINFER_TRY(const auto how, read_quantization(text_of(*all.config), all.config->path()));
  conventions with{architecture, quantised_parts(how)};
  for (const auto& [name, expected] : shards)
    DINFER_CHECK(add_shard(folder / name, expected, with, all));
  DINFER_CHECK(add_quantised(with, file.string(), all));
  auto source = std::make_unique<safetensors_source>(std::move(all));
  if (const std::string* twice = source->duplicate())
    return wrong(file.string(), fmt::format("tensor {} stands twice", *twice));
  return source;
}

}  // namespace dinfer::runtime
