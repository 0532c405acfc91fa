// SPDX-License-Identifier: Apache-2.0
// cluster.conf: what is read, what is refused and with which words, flags over files, sizes, and
// the files in conf/.
#include "runtime/base/config_defaults.hpp"
#include "runtime/base/toml_config.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_path.hpp"

#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>

namespace dinfer::runtime {
namespace {

const std::string good = R"([model]
path = "m.gguf"
[parallel]
tensor_parallel_size = 1
[[node]]
name = "a"
address = "127.0.0.1"
port = 4242
devices = ["cpu:0"]
[[gateway]]
node = "a"
port = 8000
)";

std::string changed(const std::string& before, const std::string& after) {
  auto text = good;
  const auto at = text.find(before);
  REQUIRE(at != std::string::npos);
  return text.replace(at, before.size(), after);
}

// Everything that is wrong with a text: of its keys, or of what they mean together.
std::string problems(const std::string& text) {
  auto config = parse_config(text, "c.conf");
  if (!config) return config.error().message;
  const auto checked = check_config(*config);
  return checked ? "" : checked.error().message;
}

struct bad {
  std::string before, after;
  std::string start;               // where and what
  std::vector<std::string> words;  // of the remedy
};

const std::string tp = "tensor_parallel_size = 1";
const std::string name = "name = \"a\"";

const std::vector<bad> bad_configs = {
    {tp,
     "tensor_parallel_sise = 1",
     "c.conf:4: parallel.tensor_parallel_sise: unknown key",
     {"did you mean tensor_parallel_size?"}},
    {tp, "colour = 1", "c.conf:4: parallel.colour: unknown key", {"there are", "pp_layers"}},
    {tp,
     "tensor_parallel_size = \"two\"",
     "c.conf:4: parallel.tensor_parallel_size:",
     {"\"two\"", "an integer from 0 to 1024"}},
    {tp, "tensor_parallel_size = -1", "c.conf:4: parallel.tensor_parallel_size: -1", {"0 to 1024"}},
    {tp, "tensor_parallel_size = 1.0", "c.conf:4: parallel.tensor_parallel_size: 1", {"integer"}},
    {tp,
     "tensor_parallel_size = 4",
     "c.conf:4: parallel.tensor_parallel_size: 4 x 1 ranks",
     {"have 1", "list more devices or lower"}},
    {tp,
     "pipeline_parallel_size = 3",
     "c.conf:4: parallel.pipeline_parallel_size: 1 x 3 ranks",
     {"list more devices"}},
    {tp,
     "pipeline_parallel_size = 2\npp_layers = [15]",
     "c.conf:5: parallel.pp_layers: 1 entries",
     {"pipeline_parallel_size = 2", "one per stage"}},
    {tp, "pp_layers = [0, 30]", "c.conf:4: parallel.pp_layers: entry 1: 0", {"1 to 10000"}},
    {tp, "pp_layers = 15", "c.conf:4: parallel.pp_layers: 15", {"array of integers"}},
    {tp, "isolation = \"pod\"", "c.conf:4: parallel.isolation:", {"node, process"}},
    {"[parallel]", "[paralel]", "c.conf:3: paralel: unknown section", {"did you mean parallel?"}},
    {"[parallel]", "[[parallel]]", "c.conf:3: parallel:", {"[parallel]"}},
    {"[[node]]", "[node]", "c.conf:5: node:", {"[[node]]"}},
    {"port = 4242", "port = 99999", "c.conf:8: node[0].port: 99999", {"0 to 65535"}},
    {"port = 4242",
     "port = 8000",
     "c.conf:12: gateway[0].port: 127.0.0.1:8000",
     {"node[0].port", "another port"}},
    {"\"127.0.0.1\"",
     "\"10.0.0.1\"",
     "c.conf:7: node[0].address: 10.0.0.1",
     {"insecure_network = true", "security.tls_ca_file", "dinfer certs"}},
    {"[parallel]",
     "[security]\ntls_ca_file = \"ca.crt\"\ntls_key_file = \"a.key\"\n[parallel]",
     "c.conf:3: security.tls_certificate_file: not given",
     {"tls_ca_file", "tls_key_file", "or none"}},
    {"\"127.0.0.1\"", "\"0.0.0.0\"", "c.conf:7: node[0].address: 0.0.0.0", {"dial"}},
    {"\"127.0.0.1\"", "\"a b\"", "c.conf:7: node[0].address: \"a b\"", {"IP address"}},
    {"\"cpu:0\"", "\"gpu:0\"", "c.conf:9: node[0].devices: \"gpu:0\"", {"did you mean cuda:0?"}},
    {"\"cpu:0\"", "\"cpu:0\", \"cpu:0\"", "c.conf:9: node[0].devices: cpu:0 stands twice", {}},
    {"\"cpu:0\"", "7", "c.conf:9: node[0].devices: entry 1: 7", {"string"}},
    {"devices = [\"cpu:0\"]",
     "env = { \"A-B\" = \"1\" }",
     "c.conf:9: node[0].env: \"A-B\"",
     {"letters, digits and _"}},
    {"devices = [\"cpu:0\"]", "env = { AB = 1 }", "c.conf:9: node[0].env: AB: 1", {"string"}},
    {"devices = [\"cpu:0\"]", "", "c.conf:5: node[0].devices: no node has a device", {"cpu:0"}},
    {name, "name = \"a/b\"", "c.conf:6: node[0].name: \"a/b\"", {"letters, digits"}},
    {name, "name = ", "c.conf:6: ", {"TOML"}},
    {"node = \"a\"", "node = \"b\"", "c.conf:11: gateway[0].node: there is no node \"b\"", {"a"}},
    {"[[gateway]]",
     "[[node]]\nname = \"a\"\naddress = \"127.0.0.2\"\n[[gateway]]",
     "c.conf:11: node[1].name: \"a\"",
     {"node[0]", "must differ"}},
    {"[[gateway]]",
     "[[node]]\nname = \"b\"\nport = 4242\n[[gateway]]",
     "c.conf:12: node[1].port: 127.0.0.1:4242",
     {"node[0].port"}},
    {"[parallel]",
     "[cache]\nmemory = \"2 GB of it\"\n[parallel]",
     "c.conf:4: cache.memory:",
     {"2 GiB"}},
    {"[parallel]",
     "[cache]\nblock_size = 24\n[parallel]",
     "c.conf:4: cache.block_size: 24",
     {"power of two"}},
    {"[parallel]",
     "[cache]\nfraction = nan\n[parallel]",
     "c.conf:4: cache.fraction: nan",
     {"0 to 1"}},
    {"[parallel]",
     "[scheduler]\nmax_num_seqs = 0\n[parallel]",
     "c.conf:4: scheduler.max_num_seqs:",
     {"from 1"}},
    {"[parallel]",
     "[health]\nheartbeat_ms = 5000\ntimeout_ms = 100\n[parallel]",
     "c.conf:5: health.timeout_ms: 100",
     {"heartbeat_ms = 5000", "10000 or more"}},
    {"[parallel]", "[log]\nlevel = \"loud\"\n[parallel]", "c.conf:4: log.level:", {"info"}},
    {"[parallel]", "[model]\n[parallel]", "c.conf:3: ", {"TOML"}},
    {"path = \"m.gguf\"", "dtype = 1979-05-27", "c.conf:2: model.dtype: a date", {"bfloat16"}},
    {"path = \"m.gguf\"", "", "c.conf:1: model.path: no model", {"GGUF"}},
    {"path = \"m.gguf\"", "format = \"random\"", "c.conf:1: model.path: no model", {"config.json"}},
    {"path = \"m.gguf\"", "format = \"onnx\"", "c.conf:2: model.format:", {"gguf", "random"}},
    {"path = \"m.gguf\"",
     "path = \"m.gguf\"\ndtype = \"bfloat16\"",
     "c.conf:3: model.dtype: activations are float32 on CPUs",
     {"\"float32\""}},
    {"path = \"m.gguf\"",
     "path = \"m.gguf\"\nquantization = \"fp8\"",
     "c.conf:3: model.quantization: \"fp8\" needs GPUs",
     {"as they are stored"}},
    {"path = \"m.gguf\"",
     "path = \"m.gguf\"\nquantization = \"int4\"",
     "c.conf:3: model.quantization:",
     {"none", "fp8"}},
    {"[parallel]",
     "[cache]\nkv_cache_dtype = \"fp8\"\n[parallel]",
     "c.conf:4: cache.kv_cache_dtype: \"fp8\" needs GPUs",
     {"\"auto\" fits"}},
    {"[parallel]",
     "[cache]\nkv_cache_dtype = \"int8\"\n[parallel]",
     "c.conf:4: cache.kv_cache_dtype:",
     {"auto", "fp8"}},
    {"path = \"m.gguf\"",
     "path = \"m.gguf\"\nseed = -1",
     "c.conf:3: model.seed: -1",
     {"an integer from 0"}},
    {"\"cpu:0\"", "\"cpu:0\", \"cuda:0\"", "c.conf:9: node[0].devices: cpu:0 and cuda:0", {"kind"}},
    {"\"cpu:0\"",
     "\"cuda:0\", \"cuda:0\"",
     "c.conf:9: node[0].devices: cuda:0 stands twice",
     {"a device of its own"}},
    {"\"cpu:0\"]",
     "\"cuda:0\"]\n[[node]]\nname = \"b\"\nport = 4243\ndevices = [\"cuda:0\"]",
     "c.conf:13: node[1].devices: cuda:0 of 127.0.0.1 is listed by node \"a\" already",
     {"a GPU of its own"}},
    {"[parallel]",
     "[health]\nresume_timeout_ms = -1\n[parallel]",
     "c.conf:4: health.resume_timeout_ms: -1",
     {"0 to 3600000"}},
    {"port = 4242",
     "port = 0\n[parallel.x]",
     "c.conf:9: parallel.x: unknown key",
     {"there are", "isolation"}},
    {tp, tp + "\n" + tp, "c.conf:5: ", {"TOML"}},
    {tp, tp + "\nisolation.a.b = 1\nisolation.a = 2", "c.conf:6: ", {"TOML"}},
    {name, "name = \"\xff\xfe\"", "c.conf:6: ", {"TOML"}},
    {name,
     "name = \"" + std::string(900'000, 'x') + "\"",
     "c.conf:6: node[0].name: a string of 900000 bytes",
     {"4096 fit"}},
    {name, std::string(900'000, 'x') + " = 1", "c.conf:6: node[0].x", {"unknown key"}},
    {"[parallel]", "[cuda]\ngraphs = 1\n[parallel]", "c.conf:4: cuda.graphs: 1", {"true or false"}},
};

}  // namespace

TEST_CASE("a bad configuration is refused with file, line, key and what would fit", "[config]") {
  REQUIRE(problems(good).empty());
  CHECK(bad_configs.size() >= 40);
  for (const auto& one : bad_configs) {
    const auto said = problems(changed(one.before, one.after));
    INFO(one.after.substr(0, 200) << "\n-> " << said);
    CHECK(said.starts_with(one.start));
    // A problem has one line; a few of these make two.
    CHECK(std::count(said.begin(), said.end(), '\n') <= 1);
    CHECK(said.size() < 1000);
    for (const auto& word : one.words) CHECK(said.find(word) != std::string::npos);
  }
}

TEST_CASE("all problems of a file are told at once, in the order of its lines", "[config]") {
  const auto said = problems("[model]\npath = 7\nx = 1\n[parallel]\npp_layers = [0]\n");
  CHECK(std::count(said.begin(), said.end(), '\n') == 2);
  CHECK(said.find(":2: model.path") < said.find(":3: model.x"));
  CHECK(said.find(":3: model.x") < said.find(":5: parallel.pp_layers"));
}

TEST_CASE("a file over 1 MB and a line of 1 MB of brackets are refused", "[config]") {
  CHECK(problems(std::string(2 << 20, '#')).find("1 MB") != std::string::npos);
  CHECK_FALSE(problems("a = " + std::string(1'000'000, '[')).empty());
}

TEST_CASE("random damage to a good file is refused or read, never more", "[config]") {
  constexpr unsigned seed = 7;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 2000; ++i) {
    auto text = good;
    for (int changes = 0; changes < 3; ++changes)
      text[random() % text.size()] = static_cast<char>(random() % 256);
    if (random() % 4 == 0) text.resize(random() % text.size());
    const auto said = problems(text);
    if (!said.empty()) CHECK(said.starts_with("c.conf:"));
  }
}

TEST_CASE("what a good file says is what the configuration holds", "[config]") {
  auto config = parse_config(
      "[model]\npath = \"m\"\nmax_model_len = \"32K\"\ndtype = \"float32\"\n"
      "[cache]\nmemory = \"2 GiB\"\nprefix_caching = false\n"
      "[parallel]\npp_layers = [16, 14]\n[cpu]\ntransport = \"tcp\"\n"
      "[[node]]\nname = \"a\"\ndevices = [\"cpu:0\", \"cpu:1\"]\nenv = { A_1 = \"x\" }\n",
      "c.conf");
  REQUIRE(config);
  REQUIRE(check_config(*config));
  CHECK(config->model.max_model_len == 32768);
  CHECK(config->model.dtype == dtype_choice::float32);
  CHECK(config->cache.memory_bytes == 2147483648);
  CHECK_FALSE(config->cache.prefix_caching);
  CHECK(config->parallel.pp_layers == std::vector<std::uint32_t>{16, 14});
  CHECK(config->parallel.pipeline_parallel_size == 2);  // follows from pp_layers
  CHECK(config->cpu.transport == transport_choice::tcp);
  CHECK(config->nodes[0].env.at("A_1") == "x");
  REQUIRE(config->gateways.size() == 1);
  CHECK(config->gateways[0].node == "a");
  CHECK(config->gateways[0].port == 8000);
}

TEST_CASE("with certificates a node may leave the loopback", "[config]") {
  auto text = changed("\"127.0.0.1\"", "\"10.0.0.1\"");
  CHECK_FALSE(problems(text).empty());
  text.insert(text.find("[parallel]"),
              "[security]\ntls_ca_file = \"ca.crt\"\ntls_certificate_file = \"{node}.crt\"\n"
              "tls_key_file = \"{node}.key\"\n");
  CHECK(problems(text).empty());
}

TEST_CASE("several GPUs of one node or of several serve a model", "[config]") {
  auto text = changed("tensor_parallel_size = 1", "tensor_parallel_size = 2");
  text.replace(text.find("cpu:0"), 5, "cuda:0\", \"cuda:1");
  CHECK(problems(text).empty());
  text.replace(text.find(", \"cuda:1\"]"), 11,
               "]\n[[node]]\nname = \"b\"\nport = 4243\ndevices = [\"cuda:1\"]");
  CHECK(problems(text).empty());
}

TEST_CASE("more ranks than GPUs are refused", "[config]") {
  auto text = changed("tensor_parallel_size = 1", "tensor_parallel_size = 2");
  text.replace(text.find("cpu:0"), 5, "cuda:0");
  CHECK(problems(text).starts_with(
      "c.conf:4: parallel.tensor_parallel_size: 2 x 1 ranks need as many devices"));
}

TEST_CASE("with isolation by process each device is a node that the one that lists it keeps",
          "[config]") {
  auto config = parse_config(
      "[parallel]\nisolation = \"process\"\n"
      "[[node]]\nname = \"a\"\ndevices = [\"fake:0\", \"fake:1\"]\n"
      "[[node]]\nname = \"b\"\nport = 4243\ndevices = [\"fake:0\"]\nenv = { X = \"1\" }\n",
      "c.conf");
  REQUIRE(config);
  for (int again = 0; again < 2; ++again) {  // checking twice changes nothing more
    REQUIRE(check_config(*config));
    REQUIRE(config->nodes.size() == 5);
  }
  CHECK(config->nodes[0].devices.empty());
  CHECK(config->nodes[1].name == "b");
  CHECK(config->nodes[2].name == "a/0");
  CHECK(config->nodes[3].name == "a/1");
  CHECK(config->nodes[3].parent == "a");
  CHECK(config->nodes[3].devices == std::vector<std::string>{"fake:1"});
  CHECK(config->nodes[4].name == "b/0");
  CHECK(config->nodes[4].env.at("X") == "1");
  CHECK(config->gateways[0].node == "a");

  auto alone = parse_config("[parallel]\nisolation = \"process\"\n", "c.conf");
  REQUIRE(alone);
  REQUIRE(apply_setting(*alone, "devices", "fake:0,fake:1"));
  REQUIRE(check_config(*alone));
  CHECK(alone->nodes[0].port == 4242);  // children dial it
  CHECK(alone->nodes.size() == 3);
  CHECK(problems("[parallel]\nisolation = \"process\"\n[[node]]\nname = \"a\"\nport = 0\n"
                 "devices = [\"fake:0\"]\n")
            .starts_with("c.conf:5: node[0].port: 0 fits only"));
}

TEST_CASE("keys that are left open mean what suits the devices", "[config]") {
  auto config = parse_config(good, "c.conf");
  REQUIRE(config);
  REQUIRE(check_config(*config));
  CHECK_FALSE(on_cuda(*config));
  const auto tokens_of_step = [](const cluster_config& c) {
    return std::pair(batched_tokens(c), mixed_tokens(c));
  };
  CHECK(tokens_of_step(*config) == std::pair(512U, 512U));
  CHECK(activation_type(*config) == kernels::dtype::f32);

  auto gpu = parse_config(changed("cpu:0", "cuda:0"), "c.conf");
  REQUIRE(gpu);
  REQUIRE(check_config(*gpu));
  CHECK(on_cuda(*gpu));
  CHECK(tokens_of_step(*gpu) == std::pair(8192U, 2048U));
  gpu->parallel.tensor_parallel_size = 2;
  CHECK(tokens_of_step(*gpu) == std::pair(8192U, 4096U));
  gpu->parallel.pipeline_parallel_size = 2;
  CHECK(tokens_of_step(*gpu) == std::pair(8192U, 8192U));
  gpu->parallel.tensor_parallel_size = 1;
  CHECK(tokens_of_step(*gpu) == std::pair(4096U, 4096U));
  gpu->parallel = {.tensor_parallel_size = 8, .pipeline_parallel_size = 0, .pp_layers = {}};
  CHECK(tokens_of_step(*gpu) == std::pair(8192U, 8192U));
  gpu->parallel.tensor_parallel_size = 1;
  gpu->scheduler.max_num_mixed_tokens = 10'000;
  CHECK(tokens_of_step(*gpu) == std::pair(8192U, 8192U));
  gpu->scheduler.max_num_mixed_tokens = 0;
  CHECK(activation_type(*gpu) == kernels::dtype::bf16);
  CHECK(memory_fraction(*gpu) == 0.92);
  CHECK(gpu->cuda.graphs);
  CHECK_FALSE(gpu->scheduler.batch_invariant);

  for (const auto& [flag, value] :
       std::vector<std::pair<std::string, std::string>>{{"dtype", "float16"},
                                                        {"max-num-batched-tokens", "2K"},
                                                        {"gpu-memory-utilization", "0.5"},
                                                        {"no-cuda-graphs", ""},
                                                        {"batch-invariant", ""},
                                                        {"tokenizer", "t.gguf"},
                                                        {"seed", "12"},
                                                        {"load-format", "random"},
                                                        {"cuda-tuning-directory", "/tmp/x"}})
    REQUIRE(apply_setting(*gpu, flag, value));
  REQUIRE(check_config(*gpu));
  CHECK(tokens_of_step(*gpu) == std::pair(2048U, 2048U));
  CHECK(activation_type(*gpu) == kernels::dtype::f16);
  CHECK(memory_fraction(*gpu) == 0.5);
  CHECK_FALSE(gpu->cuda.graphs);
  CHECK(gpu->scheduler.batch_invariant);
  CHECK(gpu->model.format == load_format::random);
  CHECK(gpu->model.seed == 12);
  CHECK(gpu->model.tokenizer == "t.gguf");
  CHECK(tuning_directory(*gpu) == "/tmp/x");
}

TEST_CASE("what is remembered of kernels lies with the user's other caches", "[config]") {
  cluster_config config;
  const auto keep = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  const auto cache = keep("XDG_CACHE_HOME"), home = keep("HOME");
  ::setenv("HOME", "/h", 1);
  ::setenv("XDG_CACHE_HOME", "/c", 1);
  CHECK(tuning_directory(config) == "/c/dinfer");
  ::setenv("XDG_CACHE_HOME", "relative", 1);  // the specification says to ignore such
  CHECK(tuning_directory(config) == "/h/.cache/dinfer");
  ::unsetenv("HOME");
  CHECK(tuning_directory(config).empty());
  config.cuda.tuning_directory = "off";
  ::setenv("HOME", home.c_str(), 1);
  CHECK(tuning_directory(config).empty());
  if (cache.empty()) ::unsetenv("XDG_CACHE_HOME");
  else ::setenv("XDG_CACHE_HOME", cache.c_str(), 1);
}

TEST_CASE("flags win over the file, and without a file make one node with enough devices",
          "[config]") {
  auto config = parse_config(good, "c.conf");
  REQUIRE(config);
  REQUIRE(apply_setting(*config, "max-model-len", "4k"));
  REQUIRE(apply_setting(*config, "no-enable-prefix-caching", ""));
  REQUIRE(apply_setting(*config, "host", "0.0.0.0"));
  CHECK(config->model.max_model_len == 4000);
  CHECK_FALSE(config->cache.prefix_caching);
  const auto open_to_all = check_config(*config);
  REQUIRE_FALSE(open_to_all);
  CHECK(open_to_all.error().message.find("api_keys_file") != std::string::npos);
  REQUIRE(apply_setting(*config, "host", "127.0.0.5"));
  REQUIRE(check_config(*config));
  REQUIRE(apply_setting(*config, "tensor-parallel-size", "4"));
  const auto checked = check_config(*config);
  REQUIRE_FALSE(checked);
  CHECK(checked.error().message.starts_with("--tensor-parallel-size: 4 x 1 ranks"));

  cluster_config bare;
  for (const auto& [flag, value] :
       std::vector<std::pair<std::string, std::string>>{{"model", "m.gguf"},
                                                        {"tensor-parallel-size", "2"},
                                                        {"pipeline-parallel-size", "2"},
                                                        {"pp-layers", "16,14"},
                                                        {"port", "0"}})
    REQUIRE(apply_setting(bare, flag, value));
  REQUIRE(check_config(bare));
  CHECK(bare.nodes[0].devices == std::vector<std::string>{"cpu:0", "cpu:1", "cpu:2", "cpu:3"});
}

TEST_CASE("a flag that does not fit is named with what would", "[config]") {
  cluster_config config;
  const auto said = [&](const char* flag, const char* value) {
    const auto done = apply_setting(config, flag, value);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::invalid_argument);
    CHECK(done.error().subject == flag);
    return done.error().message;
  };
  CHECK(said("port", "tcp://10.0.0.7:8000").find("Kubernetes") != std::string::npos);
  CHECK(said("port", "70000").find("0 to 65535") != std::string::npos);
  CHECK(said("tensor-paralel-size", "1").find("--tensor-parallel-size") != std::string::npos);
  CHECK(said("max-num-seqs", "many").find("an integer from 1") != std::string::npos);
  CHECK(said("no-max-num-seqs", "").find("no such setting") != std::string::npos);
  CHECK(said("dtype", "int3").find("bfloat16") != std::string::npos);
}

TEST_CASE("every setting has a flag of its own, a key and a help text", "[config]") {
  std::vector<std::string> names;
  for (const auto& one : settings()) {
    names.push_back(one.name);
    CHECK_FALSE(one.help.empty());
    CHECK_FALSE(one.group.empty());
  }
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
  for (const auto* wanted :
       {"model", "tensor-parallel-size", "pipeline-parallel-size", "max-model-len", "max-num-seqs",
        "max-num-batched-tokens", "served-model-name", "host", "port", "dtype", "block-size"})
    CHECK(std::binary_search(names.begin(), names.end(), wanted));
}

TEST_CASE("equal clusters have equal canonical texts", "[config]") {
  auto one = parse_config(good, "x.conf"), other = parse_config("# else\n" + good, "y.conf");
  REQUIRE(check_config(*one));
  REQUIRE(check_config(*other));
  REQUIRE(apply_setting(*other, "log-level", "debug"));
  REQUIRE(apply_setting(*other, "model", "elsewhere/m.gguf"));
  REQUIRE(apply_setting(*other, "tls-ca-file", "elsewhere/ca.crt"));
  CHECK(canonical_text(*one) == canonical_text(*other));
  REQUIRE(apply_setting(*other, "max-num-seqs", "7"));
  CHECK(canonical_text(*one) != canonical_text(*other));
}

TEST_CASE("sizes are read as people write them", "[config]") {
  const std::vector<std::pair<const char*, std::uint64_t>> sizes = {
      {"0", 0},
      {"4096", 4096},
      {"32K", 32768},
      {"32k", 32000},
      {"512MB", 512000000},
      {"512 MiB", 536870912},
      {"1.5 GiB", 1610612736},
      {"2G", 2147483648},
      {"25.6k", 25600},
      {"9007199254740993", 9007199254740993}};
  for (const auto& [text, bytes] : sizes) {
    INFO(text);
    REQUIRE(parse_size(text));
    CHECK(*parse_size(text) == bytes);
  }
  for (const auto* text : {"", "K", "-1", "1.5", "nan", "inf", "1e99", "2 GB of it", "0x10", "1 K ",
                           "99999999999999999999", "8388608T"}) {
    INFO(text);
    CHECK_FALSE(parse_size(text));
  }
  CHECK(format_bytes(512) == "512 B");
  CHECK(format_bytes(98'362'432) == "93.8 MiB");
  CHECK(format_bytes(2147483648) == "2.00 GiB");
}

TEST_CASE("every file in conf can be used", "[config]") {
  std::size_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator(tests::repository_file("conf"))) {
    if (file.path().extension() != ".conf") continue;  // a systemd unit
    INFO(file.path());
    auto config = load_config(file.path());
    REQUIRE(config);
    const auto checked = check_config(*config);
    INFO((checked ? "" : checked.error().message));
    CHECK(checked);
    ++count;
  }
  CHECK(count >= 5);
  const auto absent = load_config("absent.conf");
  REQUIRE_FALSE(absent);
  CHECK(absent.error().message.find("absent.conf") != std::string::npos);
}

TEST_CASE("conf/cpu.conf shows every key", "[config]") {
  auto config = load_config(tests::repository_file("conf/cpu.conf"));
  REQUIRE(config);
  for (const auto& one : settings()) {
    auto key = one.key;
    if (key.starts_with("node.")) key.insert(4, "[0]");
    if (key.starts_with("gateway.")) key.insert(7, "[0]");
    if (key == "parallel.pp_layers" || key == "cache.fraction") continue;  // shown as comments
    INFO(key);
    CHECK(config->lines.contains(key));
  }
}

}  // namespace dinfer::runtime
