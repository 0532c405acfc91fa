// SPDX-License-Identifier: Apache-2.0
// OpenSSL's session over send() and recv().
#include "net/tls/session.hpp"

#include "net/tls/openssl.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace dinfer::net {
namespace {

// AES-GCM may encrypt 2^24.5 records with one key (RFC 8446, 5.5).
constexpr std::uint64_t records_per_key = 1 << 23;

// OpenSSL's own socket would raise SIGPIPE, which is for the program to decide about.
int socket_of(BIO* bio) {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio)));
}

int moved(BIO* bio, ssize_t count, int retry) {
  BIO_clear_retry_flags(bio);
  if (count < 0 && (errno == EAGAIN || errno == EINTR))
    BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
  return static_cast<int>(count);
}

int send_bytes(BIO* bio, const char* from, int bytes) {
  const auto put = ::send(socket_of(bio), from, static_cast<std::size_t>(bytes), MSG_NOSIGNAL);
  return moved(bio, put, BIO_FLAGS_WRITE);
}

int receive_bytes(BIO* bio, char* to, int bytes) {
  const auto got = ::recv(socket_of(bio), to, static_cast<std::size_t>(bytes), 0);
  return moved(bio, got, BIO_FLAGS_READ);
}

long control(BIO*, int what, long, void*) { return what == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* socket_method() {
  static auto* const method = [] {
    auto* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "dinfer socket");
    BIO_meth_set_write(made, send_bytes);
    BIO_meth_set_read(made, receive_bytes);
    BIO_meth_set_ctrl(made, control);
    return made;
  }();
  return method;
}

// Zero: look again when the socket is ready. Clears what earlier calls left behind first.
template <class Call>
int code_of(SSL* ssl, Call call) {
  ERR_clear_error();
  errno = 0;
  const int done = call();
  if (done > 0) return SSL_ERROR_NONE;
  return SSL_get_error(ssl, done);
}

bool later(int code) { return code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE; }

// In TLS 1.3 a client learns that its certificate was refused when it reads for the first time.
error protocol_failure(bool proven) {
  const int reason = ERR_GET_REASON(ERR_peek_error());
  const auto text = openssl_reason();
  if (reason == SSL_R_WRONG_VERSION_NUMBER && !proven)
    return {errc::mismatch, "it does not speak TLS", {}};
  if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
    return {errc::mismatch, "it has no certificate", {}};
  if (reason > SSL_AD_REASON_OFFSET)  // what the other side said
    return {errc::mismatch, "it refuses our certificate: " + text, {}};
  return {proven ? errc::peer_lost : errc::mismatch, "TLS: " + text, {}};
}

}  // namespace

void tls_session::freer::operator()(ssl_st* held) const noexcept { SSL_free(held); }

result<tls_session> tls_session::open(std::shared_ptr<const tls_identity> own, int socket,
                                      tls_side side) {
  tls_session out(std::move(own));
  out.ssl_.reset(SSL_new(out.own_->context()));
  auto* bio = out.ssl_ != nullptr ? BIO_new(socket_method()) : nullptr;
  if (bio == nullptr) return fail(errc::internal, "OpenSSL: " + openssl_reason());
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(socket)));
  BIO_set_init(bio, 1);
  SSL_set_bio(out.ssl_.get(), bio, bio);
  side == tls_side::client ? SSL_set_connect_state(out.ssl_.get())
                           : SSL_set_accept_state(out.ssl_.get());
  return out;
}

result<bool> tls_session::shake_hands() {
  if (proven_) return true;
  const int code = code_of(ssl_.get(), [this] { return SSL_do_handshake(ssl_.get()); });
  // A handshake is smaller than any socket's empty buffer, so nobody waits to write.
  if (code == SSL_ERROR_WANT_READ) return false;
  if (code != SSL_ERROR_NONE) return tl::unexpected(failure(code));
  proven_ = true;
  return true;
}

result<std::size_t> tls_session::read_some(std::span<std::byte> to) {
  std::size_t got = 0;
  const int code =
      code_of(ssl_.get(), [&] { return SSL_read_ex(ssl_.get(), to.data(), to.size(), &got); });
  if (code == SSL_ERROR_NONE || later(code)) return got;
  return tl::unexpected(failure(code));
}

result<std::size_t> tls_session::write_some(std::span<const std::byte> from) {
  if (from.empty()) return std::size_t{0};
  std::size_t put = 0;
  const int code = code_of(ssl_.get(), [&] {
    return SSL_write_ex(ssl_.get(), from.data(), std::min(from.size(), record_bytes), &put);
  });
  if (code != SSL_ERROR_NONE && !later(code)) return tl::unexpected(failure(code));
  if (put > 0 && ++records_ % records_per_key == 0)
    SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
  return put;
}

bool tls_session::buffered() const noexcept { return SSL_has_pending(ssl_.get()) == 1; }

error tls_session::failure(int code) const {
  if (const auto verdict = SSL_get_verify_result(ssl_.get()); verdict != X509_V_OK) {
    ERR_clear_error();
    return {errc::mismatch,
            std::string("its certificate is refused: ") +
                (of_another_authority(static_cast<int>(verdict))
                     ? "not signed by our CA"
                     : X509_verify_cert_error_string(verdict)),
            {}};
  }
  if (code == SSL_ERROR_SSL) return protocol_failure(proven_);
  ERR_clear_error();
  if (errno != 0) return {errc::peer_lost, std::strerror(errno), {}};
  return {errc::peer_lost, "connection closed", {}};
}

}  // namespace dinfer::net
