// SPDX-License-Identifier: Apache-2.0
// JSON behind config_section, by simdjson. Thread: the caller's.
#include "runtime/models/config_section.hpp"

#include "runtime/weights/gguf_metadata.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <cmath>
#include <utility>

namespace dinfer::runtime {

namespace dom = simdjson::dom;

struct config_section::content {
  std::shared_ptr<dom::parser> parser;  // owns what `object` points to
  dom::object object;
  std::string file, prefix;  // the prefix names it in messages: "rope_scaling."

  std::optional<dom::element> find(std::string_view key) const {
    dom::element value;
    if (object.at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
    return value;
  }
};

result<config_section> config_section::parse(std::string_view text, const std::string& file) {
  content root{std::make_shared<dom::parser>(), {}, file, ""};
  dom::element document;
  if (const auto problem = root.parser->parse(text.data(), text.size()).get(document);
      problem != simdjson::SUCCESS)
    return fail(errc::bad_file,
                fmt::format("{}: is not JSON: {}", file, simdjson::error_message(problem)), file);
  if (document.get(root.object) != simdjson::SUCCESS)
    return fail(errc::bad_file, file + ": is not a JSON object", file);
  return config_section(std::make_shared<const content>(std::move(root)));
}

tl::unexpected<error> config_section::wrong(std::string_view key, const std::string& why,
                                            errc code) const {
  const std::string full = content_->prefix + std::string(key);
  return fail(code, fmt::format("{}: {}: {}", content_->file, full, why), full);
}

bool config_section::has(std::string_view key) const { return content_->find(key).has_value(); }

result<std::int32_t> config_section::integer(std::string_view key, std::int64_t least,
                                             std::int64_t most,
                                             std::optional<std::int64_t> otherwise) const {
  std::int64_t value = 0;
  if (const auto found = content_->find(key)) {
    if (found->get(value) != simdjson::SUCCESS) return wrong(key, "is not an integer");
  } else if (otherwise) {
    value = *otherwise;
  } else {
    return wrong(key, "is missing");
  }
  if (value < least || value > most)
    return wrong(key, fmt::format("is {}; {} to {} fits", value, least, most));
  return static_cast<std::int32_t>(value);
}

result<double> config_section::number(std::string_view key, std::optional<double> otherwise) const {
  const auto found = content_->find(key);
  if (!found && otherwise) return *otherwise;
  if (!found) return wrong(key, "is missing");
  double value = 0;
  if (found->get(value) != simdjson::SUCCESS) return wrong(key, "is not a number");
  return value;
}

result<double> config_section::positive(std::string_view key) const {
  DINFER_TRY(const double value, number(key, std::nullopt));
  if (!(value > 0 && std::isfinite(value)))
    return wrong(key, fmt::format("is {}; more than 0 fits", value));
  return value;
}

result<bool> config_section::boolean(std::string_view key, bool otherwise) const {
  const auto found = content_->find(key);
  bool value = otherwise;
  if (found && found->get(value) != simdjson::SUCCESS)
    return wrong(key, "is neither true nor false");
  return value;
}

result<std::string_view> config_section::text(std::string_view key,
                                              std::string_view otherwise) const {
  const auto found = content_->find(key);
  if (!found) return otherwise;
  std::string_view value;
  if (found->get(value) != simdjson::SUCCESS) return wrong(key, "is not a string");
  return value.substr(0, 64);
}

result<std::vector<std::int64_t>> config_section::integers(std::string_view key,
                                                           std::size_t most) const {
  const auto found = content_->find(key);
  std::vector<std::int64_t> out;
  if (!found) return out;
  std::int64_t one = 0;
  dom::array many;
  if (found->get(many) != simdjson::SUCCESS) {
    if (found->get(one) != simdjson::SUCCESS) return wrong(key, "is not an integer");
    return std::vector<std::int64_t>{one};
  }
  if (many.size() > most) return wrong(key, fmt::format("more than {} of them", most));
  for (const dom::element value : many) {
    if (value.get(one) != simdjson::SUCCESS) return wrong(key, "is not an integer");
    out.push_back(one);
  }
  return out;
}

result<std::optional<std::string_view>> config_section::only_text(std::string_view key) const {
  const auto found = content_->find(key);
  dom::array all;
  if (!found || found->get(all) != simdjson::SUCCESS)
    return wrong(key, "is missing or not an array");
  std::string_view value;
  if (all.size() != 1 || all.at(0).get(value) != simdjson::SUCCESS)
    return std::optional<std::string_view>{};
  return std::optional(value);
}

result<std::optional<config_section>> config_section::child(std::string_view key) const {
  const auto found = content_->find(key);
  if (!found) return std::optional<config_section>{};
  content inner{content_->parser, {}, content_->file, content_->prefix + std::string(key) + "."};
  if (found->get(inner.object) != simdjson::SUCCESS) return wrong(key, "is not an object");
  return std::optional(config_section(std::make_shared<const content>(std::move(inner))));
}

result<std::vector<config_section>> config_section::children(std::size_t most) const {
  std::vector<config_section> out;
  for (const auto [key, value] : content_->object) {
    const std::string_view name = printable_name(key, 64) ? key : "an unprintable key";
    if (out.size() == most) return wrong(name, fmt::format("more than {} of them", most));
    content inner{
        content_->parser, {}, content_->file, fmt::format("{}{}.", content_->prefix, name)};
    if (value.get(inner.object) != simdjson::SUCCESS) return wrong(name, "is not an object");
    out.push_back(config_section(std::make_shared<const content>(std::move(inner))));
  }
  return out;
}

}  // namespace dinfer::runtime
