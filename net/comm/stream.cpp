// SPDX-License-Identifier: Apache-2.0
// Frames are gathered into records, so that a small one is one packet.
#include "net/comm/stream.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace dinfer::net {
namespace {

result<std::size_t> moved(ssize_t count, const char* doing) {
  if (count >= 0) return static_cast<std::size_t>(count);
  if (errno == EAGAIN || errno == EINTR) return std::size_t{0};
  return tl::unexpected(system_error_of(doing));
}

}  // namespace

result<stream> stream::open(descriptor socket, std::shared_ptr<const tls_identity> own,
                            tls_side side) {
  stream out(std::move(socket));
  if (own == nullptr) return out;
  DINFER_TRY(out.tls_, tls_session::open(std::move(own), out.fd(), side));
  return out;
}

result<bool> stream::shake_hands() {
  if (!tls_) return true;
  DINFER_TRY(const bool done, tls_->shake_hands());
  if (done && record_.empty()) record_.resize(tls_session::record_bytes);
  return done;
}

result<void> stream::shake_hands(wait_limit limit) {
  for (;;) {
    DINFER_TRY(const bool done, shake_hands());
    if (done) return {};
    DINFER_CHECK(await(fd(), POLLIN, limit));
  }
}

result<std::size_t> stream::read_some(std::span<std::byte> to) {
  if (to.empty()) return std::size_t{0};
  if (tls_) return tls_->read_some(to);
  const auto got = recv(fd(), to.data(), to.size(), 0);
  if (got == 0) return fail(errc::peer_lost, "connection closed");
  return moved(got, "reading");
}

result<std::size_t> stream::write_some(std::span<const std::byte> head,
                                       std::span<const std::byte> body) {
  if (tls_) return write_record(head, body);
  iovec parts[2] = {{const_cast<std::byte*>(head.data()), head.size()},
                    {const_cast<std::byte*>(body.data()), body.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  return moved(sendmsg(fd(), &message, MSG_NOSIGNAL), "writing");
}

result<std::size_t> stream::write_record(std::span<const std::byte> head,
                                         std::span<const std::byte> body) {
  if (waiting_ > 0) {
    DINFER_TRY(const auto put, tls_->write_some(std::span(record_).first(waiting_)));
    if (put == 0) return std::size_t{0};
    waiting_ = 0;
    return std::size_t{1};
  }
  const auto of_head = std::min(head.size(), record_.size());
  const auto of_body = std::min(body.size(), record_.size() - of_head);
  std::copy_n(head.begin(), of_head, record_.begin());
  std::copy_n(body.begin(), of_body, record_.begin() + static_cast<std::ptrdiff_t>(of_head));
  const auto bytes = of_head + of_body;
  if (bytes == 0) return std::size_t{0};
  DINFER_TRY(const auto put, tls_->write_some(std::span(record_).first(bytes)));
  if (put > 0) return put;
  waiting_ = bytes;
  return bytes - 1;
}

result<void> stream::read_all(void* to, std::size_t bytes, wait_limit limit) {
  std::span left(static_cast<std::byte*>(to), bytes);
  while (!left.empty()) {
    DINFER_TRY(const auto got, read_some(left));
    left = left.subspan(got);
    if (got == 0) DINFER_CHECK(await(fd(), POLLIN, limit));
  }
  return {};
}

result<void> stream::write_all(const void* from, std::size_t bytes, wait_limit limit) {
  std::span left(static_cast<const std::byte*>(from), bytes);
  while (!left.empty()) {
    DINFER_TRY(const auto put, write_some(left, {}));
    left = left.subspan(put);
    if (put == 0) DINFER_CHECK(await(fd(), POLLOUT, limit));
  }
  return {};
}

}  // namespace dinfer::net
