// SPDX-License-Identifier: Apache-2.0
// SHA-256 by OpenSSL over the whole of a file or a sample of it.
#include "runtime/weights/fingerprint.hpp"

#include "dinfer/error.hpp"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

namespace dinfer::runtime {
namespace {

constexpr std::size_t page_bytes = 4096;
constexpr std::size_t sampled_pages = 64;

class sha256 {
 public:
  sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    DINFER_ASSERT(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void add(std::span<const std::byte> bytes) {
    DINFER_ASSERT(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  std::string hex() {
    std::array<unsigned char, 32> digest{};
    DINFER_ASSERT(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1);
    std::string out;
    for (const unsigned char byte : digest) out += fmt::format("{:02x}", byte);
    return out;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string fingerprint_of(std::span<const std::byte> file, std::size_t header_bytes, bool full) {
  sha256 hash;
  if (full) {
    hash.add(file);
    return hash.hex();
  }
  const auto header = file.first(std::min(header_bytes, file.size()));
  const auto rest = file.subspan(header.size());
  hash.add(fmt::format("dinfer sample 1, {} bytes, header {}\n", file.size(), header.size()));
  hash.add(header);
  if (rest.size() <= sampled_pages * page_bytes) {
    hash.add(rest);
    return hash.hex();
  }
  // The first page is the first of the data, the last one ends with the file.
  const std::uint64_t last = rest.size() - page_bytes;
  for (std::uint64_t i = 0; i < sampled_pages; ++i) {
    const std::uint64_t step = last / (sampled_pages - 1);
    const std::uint64_t at = i + 1 == sampled_pages ? last : i * step;
    hash.add(rest.subspan(static_cast<std::size_t>(at), page_bytes));
  }
  return hash.hex();
}

}  // namespace dinfer::runtime
