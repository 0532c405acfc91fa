// SPDX-License-Identifier: Apache-2.0
// Owners for what OpenSSL hands out, and its errors and times as text. For the .cpp files of
// net/tls alone.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <memory>
#include <string>

namespace dinfer::net {

template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* held) const noexcept {
    Free(held);
  }
};
inline void free_chain(STACK_OF(X509) * held) { sk_X509_pop_free(held, X509_free); }

using bio_owner = std::unique_ptr<BIO, freed_by<BIO_free>>;
using certificate_owner = std::unique_ptr<X509, freed_by<X509_free>>;
using key_owner = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;
using store_context_owner = std::unique_ptr<X509_STORE_CTX, freed_by<X509_STORE_CTX_free>>;
using chain_owner = std::unique_ptr<STACK_OF(X509), freed_by<free_chain>>;

// Bytes to read from; they must outlive it.
inline bio_owner reader_of(const std::string& text) {
  return bio_owner(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// The oldest error of this thread, in words; empties the list.
inline std::string openssl_reason() {
  const auto code = ERR_get_error();
  ERR_clear_error();
  const char* text = code != 0 ? ERR_reason_error_string(code) : nullptr;
  return text != nullptr ? text : "unknown error";
}

// Whether OpenSSL does not trust a certificate because another CA signed it.
inline bool of_another_authority(int code) {
  return code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
         code == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE ||
         code == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
         code == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN || code == X509_V_ERR_CERT_SIGNATURE_FAILURE;
}

inline std::time_t unix_time(const ASN1_TIME* from) {
  std::tm parts{};
  return ASN1_TIME_to_tm(from, &parts) == 1 ? ::timegm(&parts) : 0;
}

inline std::string date_text(std::time_t time) {
  std::tm parts{};
  char text[64] = {};
  ::gmtime_r(&time, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

}  // namespace dinfer::net
