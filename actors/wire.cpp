// SPDX-License-Identifier: Apache-2.0
// See wire.hpp. A foreign code beyond the last one we know reads as internal.
#include "actors/wire.hpp"

#include <algorithm>

namespace dinfer::actors {

namespace {

constexpr auto category = caf::atom("dinfer");

errc known(std::uint8_t code) noexcept {
  return code <= static_cast<std::uint8_t>(errc::internal) ? static_cast<errc>(code)
                                                           : errc::internal;
}

error from_system(caf::sec code, const caf::error& e) {
  switch (code) {
    case caf::sec::request_timeout:
      return {errc::timeout, "no answer in time", {}};
    case caf::sec::request_receiver_down:
    case caf::sec::remote_lookup_failed:
    case caf::sec::no_route_to_receiving_node:
    case caf::sec::disconnect_during_handshake:
      return {errc::peer_lost, "the other side is gone (" + to_string(code) + ")", {}};
    case caf::sec::cannot_connect_to_node:
      return {errc::peer_lost, "cannot connect", {}};
    case caf::sec::incompatible_versions:
    case caf::sec::incompatible_application_ids:
      return {errc::mismatch, "the other side speaks another protocol", {}};
    default:
      return {errc::internal, to_string(e), {}};
  }
}

}  // namespace

caf::error to_caf(const error& e) {
  return caf::error{static_cast<std::uint8_t>(e.code), category,
                    caf::make_message(e.message, e.subject)};
}

error from_caf(const caf::error& e) {
  if (!e) return {errc::none, {}, {}};
  if (e.category() == category) {
    error out{known(e.code()), {}, {}};
    if (e.context().match_elements<std::string, std::string>()) {
      out.message = e.context().get_as<std::string>(0);
      out.subject = e.context().get_as<std::string>(1);
    }
    return out;
  }
  if (e.category() == caf::atom("system")) return from_system(static_cast<caf::sec>(e.code()), e);
  if (e.category() == caf::atom("exit")) {
    const auto reason = static_cast<caf::exit_reason>(e.code());
    if (reason == caf::exit_reason::remote_link_unreachable)
      return {errc::peer_lost, "connection lost", {}};
    return {errc::peer_lost, to_string(reason), {}};
  }
  return {errc::internal, to_string(e), {}};
}

std::string text_of(const caf::error& e) { return e ? from_caf(e).message : "ended"; }

}  // namespace dinfer::actors
