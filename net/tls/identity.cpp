// SPDX-License-Identifier: Apache-2.0
// Three files to one context, each doubt about them said in a line for a person.
#include "net/tls/identity.hpp"

#include "net/tls/openssl.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

namespace dinfer::net {
namespace {

constexpr std::size_t largest_file = 1 << 20;
constexpr long largest_chain = 16 << 10;  // bytes of certificates that a stranger may send

// A configured file: where it is, and the key that names it.
struct named_file {
  const char* key;
  std::string path;

  tl::unexpected<error> wrong(const std::string& what) const {
    return fail(errc::invalid_argument, fmt::format("{}: {}: {}", key, path, what), key);
  }
};

std::string with_node(std::string path, const std::string& node) {
  constexpr std::string_view mark = "{node}";
  for (auto at = path.find(mark); at != std::string::npos; at = path.find(mark, at + node.size()))
    path.replace(at, mark.size(), node);
  return path;
}

result<std::string> text_of(const named_file& file) {
  errno = 0;
  std::ifstream in(file.path, std::ios::binary);
  std::string text(largest_file + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.empty() && errno != 0)
    return file.wrong(
        fmt::format("cannot be read: {}; name the file that dinfer certs made, and "
                    "let the node's user read it",
                    std::strerror(errno)));
  if (text.size() > largest_file) return file.wrong("over 1 MB; a PEM file is a few KB");
  return text;
}

result<chain_owner> certificates_of(const named_file& file) {
  DINFER_TRY(const auto text, text_of(file));
  const auto from = reader_of(text);
  chain_owner out(sk_X509_new_null());
  for (;;) {
    auto* one = PEM_read_bio_X509(from.get(), nullptr, nullptr, nullptr);
    if (one == nullptr) break;
    sk_X509_push(out.get(), one);
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!at_end || sk_X509_num(out.get()) == 0)
    return file.wrong("no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")");
  return out;
}

result<key_owner> key_of(const named_file& file) {
  DINFER_TRY(const auto text, text_of(file));
  const auto from = reader_of(text);
  const auto no_password = [](char*, int, int, void*) { return -1; };
  key_owner out(PEM_read_bio_PrivateKey(from.get(), nullptr, no_password, nullptr));
  ERR_clear_error();
  if (!out) return file.wrong("no private key in PEM without a password");
  return out;
}

// Why OpenSSL does not trust our own certificate, by the file that is at fault.
tl::unexpected<error> distrust(X509_STORE_CTX* of, const named_file& own, const named_file& ca) {
  const int code = X509_STORE_CTX_get_error(of);
  const auto& at_fault = X509_STORE_CTX_get_error_depth(of) > 0 ? ca : own;
  const auto* bad = X509_STORE_CTX_get_current_cert(of);
  switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return at_fault.wrong(fmt::format("expired on {}; dinfer certs makes a new one",
                                        date_text(unix_time(X509_get0_notAfter(bad)))));
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return at_fault.wrong(fmt::format("valid from {} on, and this host's clock says {}",
                                        date_text(unix_time(X509_get0_notBefore(bad))),
                                        date_text(std::time(nullptr))));
    case X509_V_ERR_INVALID_PURPOSE:
      return at_fault.wrong(
          "not made for both ends of TLS (extendedKeyUsage serverAuth and clientAuth); dinfer "
          "certs makes one that is");
    default:
      if (!of_another_authority(code)) return at_fault.wrong(X509_verify_cert_error_string(code));
      return own.wrong(fmt::format(
          "not signed by the CA in {}; all certificates of a cluster come from its one CA",
          ca.path));
  }
}

result<void> check_trust(X509_STORE* store, STACK_OF(X509) * chain, const named_file& own,
                         const named_file& ca) {
  for (const char* end : {"ssl_server", "ssl_client"}) {
    const store_context_owner check(X509_STORE_CTX_new());
    X509_STORE_CTX_init(check.get(), store, sk_X509_value(chain, 0), chain);
    X509_STORE_CTX_set_default(check.get(), end);
    if (X509_verify_cert(check.get()) != 1) return distrust(check.get(), own, ca);
  }
  return {};
}

void restrict_context(SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  // AES-128 first: it is the fastest one where tensors are encrypted.
  SSL_CTX_set_ciphersuites(
      context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_max_cert_list(context, largest_chain);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_NO_AUTO_CHAIN);
}

}  // namespace

tls_identity::~tls_identity() { SSL_CTX_free(context_); }

result<std::shared_ptr<const tls_identity>> tls_identity::load(const security_section& from,
                                                               const std::string& node) {
  if (from.tls_ca_file.empty()) return nullptr;
  const named_file ca{"security.tls_ca_file", with_node(from.tls_ca_file, node)},
      own{"security.tls_certificate_file", with_node(from.tls_certificate_file, node)},
      secret{"security.tls_key_file", with_node(from.tls_key_file, node)};
  DINFER_TRY(const auto authorities, certificates_of(ca));
  DINFER_TRY(const auto chain, certificates_of(own));
  DINFER_TRY(const auto key, key_of(secret));
  auto* leaf = sk_X509_value(chain.get(), 0);
  if (X509_check_private_key(leaf, key.get()) != 1) {
    ERR_clear_error();
    return secret.wrong(
        fmt::format("not the key of the certificate in {}; the two come in a pair", own.path));
  }
  std::shared_ptr<tls_identity> out(new tls_identity);
  out->context_ = SSL_CTX_new(TLS_method());
  if (out->context_ == nullptr) return fail(errc::internal, "OpenSSL: " + openssl_reason());
  restrict_context(out->context_);
  auto* store = SSL_CTX_get_cert_store(out->context_);
  for (int i = 0; i < sk_X509_num(authorities.get()); ++i)
    X509_STORE_add_cert(store, sk_X509_value(authorities.get(), i));
  DINFER_CHECK(check_trust(store, chain.get(), own, ca));
  if (SSL_CTX_use_certificate(out->context_, leaf) != 1 ||
      SSL_CTX_use_PrivateKey(out->context_, key.get()) != 1)
    return own.wrong(openssl_reason());
  for (int i = 1; i < sk_X509_num(chain.get()); ++i)
    SSL_CTX_add1_chain_cert(out->context_, sk_X509_value(chain.get(), i));
  const auto until = unix_time(X509_get0_notAfter(leaf));
  out->valid_until_ = std::chrono::system_clock::from_time_t(until);
  out->description_ = fmt::format("certificate {}, valid until {}", own.path, date_text(until));
  return out;
}

}  // namespace dinfer::net
