// SPDX-License-Identifier: Apache-2.0
// X.509 version 3 with the extensions of RFC 5280 that a CA and its nodes need.
#include "net/tls/issue.hpp"

#include "net/tls/openssl.hpp"

#include <arpa/inet.h>

#include <array>
#include <utility>

namespace dinfer::net {
namespace {

constexpr int serial_bytes = 16;
constexpr const char* authority_name = "dinfer cluster CA";

tl::unexpected<error> failed(const char* doing) {
  return fail(errc::internal, std::string(doing) + ": " + openssl_reason());
}

// Random and positive, as two certificates of a CA must never share one.
bool draw_serial(X509* to) {
  std::array<unsigned char, serial_bytes> bytes{};
  if (RAND_bytes(bytes.data(), serial_bytes) != 1) return false;
  bytes[0] = static_cast<unsigned char>((bytes[0] & 0x7f) | 0x40);
  BIGNUM* number = BN_bin2bn(bytes.data(), serial_bytes, nullptr);
  const bool done = BN_to_ASN1_INTEGER(number, X509_get_serialNumber(to)) != nullptr;
  BN_free(number);
  return done;
}

bool set_name(X509_NAME* to, const std::string& common) {
  const auto add = [&](const char* field, const std::string& value) {
    return X509_NAME_add_entry_by_txt(to, field, MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(value.data()),
                                      static_cast<int>(value.size()), -1, 0) == 1;
  };
  return add("O", "dinfer") && add("CN", common);
}

bool add_extension(X509* to, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, to, nullptr, nullptr, 0);
  auto* made = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  const bool done = made != nullptr && X509_add_ext(to, made, -1) == 1;
  X509_EXTENSION_free(made);
  return done;
}

bool is_address(const std::string& text) {
  in6_addr parsed;
  return inet_pton(AF_INET, text.c_str(), &parsed) == 1 ||
         inet_pton(AF_INET6, text.c_str(), &parsed) == 1;
}

result<std::string> pem_of(int (*write)(BIO*, const void*), const void* from) {
  const bio_owner to(BIO_new(BIO_s_mem()));
  if (write(to.get(), from) != 1) return failed("writing PEM");
  char* text = nullptr;
  const long size = BIO_get_mem_data(to.get(), &text);
  return std::string(text, static_cast<std::size_t>(size));
}

result<issued_certificate> as_pem(const X509* certificate, const EVP_PKEY* key) {
  issued_certificate out;
  DINFER_TRY(out.certificate, pem_of(
                                  [](BIO* to, const void* from) {
                                    return PEM_write_bio_X509(to, static_cast<const X509*>(from));
                                  },
                                  certificate));
  DINFER_TRY(out.key, pem_of(
                          [](BIO* to, const void* from) {
                            return PEM_write_bio_PKCS8PrivateKey(
                                to, static_cast<const EVP_PKEY*>(from), nullptr, nullptr, 0,
                                nullptr, nullptr);
                          },
                          key));
  return out;
}

// All but the extensions and the signature.
result<certificate_owner> blank(const std::string& common, EVP_PKEY* key, const X509* issuer,
                                const validity& when) {
  certificate_owner out(X509_new());
  if (!out || X509_set_version(out.get(), X509_VERSION_3) != 1 || !draw_serial(out.get()) ||
      !set_name(X509_get_subject_name(out.get()), common) ||
      X509_set_issuer_name(out.get(),
                           X509_get_subject_name(issuer != nullptr ? issuer : out.get())) != 1 ||
      ASN1_TIME_set(X509_getm_notBefore(out.get()), when.from) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(out.get()), when.until) == nullptr ||
      X509_set_pubkey(out.get(), key) != 1)
    return failed("making a certificate");
  return out;
}

}  // namespace

result<issued_certificate> make_authority(const validity& when) {
  const key_owner key(EVP_EC_gen("P-256"));
  if (!key) return failed("making a key");
  DINFER_TRY(const auto made, blank(authority_name, key.get(), nullptr, when));
  auto* own = made.get();
  if (!add_extension(own, own, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
      !add_extension(own, own, NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !add_extension(own, own, NID_subject_key_identifier, "hash") ||
      X509_sign(own, key.get(), EVP_sha256()) == 0)
    return failed("making a CA");
  return as_pem(own, key.get());
}

result<issued_certificate> issue_certificate(const issued_certificate& authority,
                                             const std::string& node,
                                             const std::vector<std::string>& addresses,
                                             const validity& when) {
  const certificate_owner issuer(
      PEM_read_bio_X509(reader_of(authority.certificate).get(), nullptr, nullptr, nullptr));
  const auto no_password = [](char*, int, int, void*) { return -1; };
  const key_owner issuer_key(
      PEM_read_bio_PrivateKey(reader_of(authority.key).get(), nullptr, no_password, nullptr));
  ERR_clear_error();
  if (!issuer || !issuer_key || X509_check_private_key(issuer.get(), issuer_key.get()) != 1 ||
      X509_check_ca(issuer.get()) == 0) {
    ERR_clear_error();
    return fail(errc::bad_file, "no CA and its private key in PEM without a password");
  }
  const key_owner key(EVP_EC_gen("P-256"));
  if (!key) return failed("making a key");
  DINFER_TRY(const auto made, blank(node, key.get(), issuer.get(), when));
  auto* own = made.get();
  std::string names = "DNS:" + node;
  for (const auto& one : addresses) names += (is_address(one) ? ",IP:" : ",DNS:") + one;
  if (!add_extension(own, issuer.get(), NID_basic_constraints, "critical,CA:FALSE") ||
      !add_extension(own, issuer.get(), NID_key_usage, "critical,digitalSignature") ||
      !add_extension(own, issuer.get(), NID_ext_key_usage, "serverAuth,clientAuth") ||
      !add_extension(own, issuer.get(), NID_subject_key_identifier, "hash") ||
      !add_extension(own, issuer.get(), NID_authority_key_identifier, "keyid:always") ||
      !add_extension(own, issuer.get(), NID_subject_alt_name, names) ||
      X509_sign(own, issuer_key.get(), EVP_sha256()) == 0)
    return failed("making a certificate");
  return as_pem(own, key.get());
}

std::time_t valid_until(const std::string& certificate) {
  const certificate_owner read(
      PEM_read_bio_X509(reader_of(certificate).get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  return read ? unix_time(X509_get0_notAfter(read.get())) : 0;
}

}  // namespace dinfer::net
