// SPDX-License-Identifier: Apache-2.0
// See setting_flags.hpp.
#include "apps/setting_flags.hpp"

#include "runtime/base/toml_config.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace dinfer::apps {

namespace {

std::string environment_name(const std::string& flag) {
  std::string name = "DINFER_" + flag;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return c == '-' ? '_' : static_cast<char>(std::toupper(c));
  });
  return name;
}

}  // namespace

std::vector<std::string> written_out(int argc, char** argv) {
  std::map<std::string, std::string> shorts;
  for (const auto& setting : runtime::settings()) {
    if (!setting.short_name.empty()) shorts["-" + setting.short_name] = "--" + setting.name;
  }
  std::vector<std::string> args;
  for (int i = argc - 1; i > 0; --i) {
    std::string arg = argv[i];
    const auto equals = arg.find('=');
    const auto known = shorts.find(arg.substr(0, equals));
    if (known != shorts.end())
      arg = known->second + (equals == std::string::npos ? "" : arg.substr(equals));
    args.push_back(arg);
  }
  return args;
}

void setting_flags::declare(CLI::App& app) {
  for (const auto& setting : runtime::settings()) {
    auto help = setting.help;
    if (!setting.short_name.empty()) help += " (-" + setting.short_name + ")";
    auto& value = given_[setting.name];
    if (setting.boolean) {
      help += "; --no-" + setting.name + " turns it off";
      app.add_flag_callback(
             "--" + setting.name, [&value] { value = "true"; }, help)
          ->group(setting.group);
      app.add_flag_callback("--no-" + setting.name, [&value] { value = "false"; })->group("");
    } else {
      app.add_option("--" + setting.name, value, help)
          ->group(setting.group)
          ->type_name("")
          ->take_last();
    }
  }
}

result<cluster_config> setting_flags::configuration(const std::string& file,
                                                    setting_overrides& overrides) const {
  cluster_config config;
  if (!file.empty()) {
    DINFER_TRY(config, runtime::load_config(file));
  }
  for (const auto& setting : runtime::settings()) {
    const auto name = environment_name(setting.name);
    const char* from_environment = std::getenv(name.c_str());
    if (from_environment != nullptr) {
      if (auto done = runtime::apply_setting(config, setting.name, from_environment); !done)
        return fail(done.error().code, name + ": " + done.error().message, name);
      overrides.emplace_back(setting.name, std::string(from_environment) + " (environment)");
    }
    if (const auto& value = given_.at(setting.name)) {
      DINFER_CHECK(runtime::apply_setting(config, setting.name, *value));
      overrides.emplace_back(setting.name, *value + " (flag)");
    }
  }
  DINFER_CHECK(runtime::check_config(config));
  return config;
}

std::vector<std::string> setting_flags::words() const {
  std::vector<std::string> out;
  for (const auto& setting : runtime::settings()) {
    const auto& value = given_.at(setting.name);
    if (!value) continue;
    if (setting.boolean) out.push_back((*value == "true" ? "--" : "--no-") + setting.name);
    else out.push_back("--" + setting.name + "=" + *value);
  }
  return out;
}

}  // namespace dinfer::apps
