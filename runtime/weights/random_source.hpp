// SPDX-License-Identifier: Apache-2.0
// A model of given shapes with made-up weights: for benchmarks and tests of sizes that nobody has a
// file of. A config.json says the shapes; tensors have the names and shapes that the model asks for
// and no data. Every value follows from the seed, the tensor's name and the element's index, the
// same on every node and backend.
#pragma once

#include "dinfer/error.hpp"
#include "runtime/weights/source.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace dinfer::runtime {

// `path`: a config.json or a directory that holds one. Errors: not_found, io_error, and those of
// parse_config_json.
result<std::unique_ptr<weight_source>> open_random(const std::string& path, std::uint64_t seed);

// The same over a text. `file` stands in messages; its folder names the model.
result<std::unique_ptr<weight_source>> parse_random(std::string_view text, const std::string& file,
                                                    std::uint64_t seed);

// What a source of this kind answers to text(): the whole file, and the model's name.
inline constexpr std::string_view config_json_key = "config.json";
inline constexpr std::string_view model_name_key = "general.name";

}  // namespace dinfer::runtime
