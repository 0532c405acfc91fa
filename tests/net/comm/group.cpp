// SPDX-License-Identifier: Apache-2.0
// Threads and processes that meet.
#include "tests/net/comm/group.hpp"

#include "net/comm/transport.hpp"
#include "tests/net/tls/certificates.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <thread>

namespace dinfer::tests {
namespace {

constexpr std::size_t card_slot = 1024;
constexpr std::chrono::seconds to_meet(10);

std::string card_of(runtime::transport& of) {
  auto card = of.card();
  if (!card) throw std::runtime_error(card.error().message);
  return *card;
}

std::unique_ptr<kernels::communicator> meet(runtime::transport& own,
                                            const std::vector<std::string>& cards,
                                            std::int32_t rank) {
  auto made = own.join("g", cards, rank, {to_meet});
  if (!made) throw std::runtime_error(made.error().message);
  return std::move(*made);
}

// A child: sends its card up the socket, gets everyone's, does its part.
void run_child(const group_options& o, std::int32_t rank, int socket, const rank_body& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto own = rank_transport(o, rank);
  auto card = card_of(*own);
  card.resize(card_slot);
  std::string all(card_slot * static_cast<std::size_t>(o.size), '\0');
  if (::send(socket, card.data(), card.size(), 0) < 0 ||
      ::recv(socket, all.data(), all.size(), 0) != static_cast<ssize_t>(all.size()))
    throw std::runtime_error("cards could not be exchanged");
  std::vector<std::string> cards;
  for (std::size_t at = 0; at < all.size(); at += card_slot) cards.emplace_back(all.c_str() + at);
  body(*meet(*own, cards, rank));
}

// One identity for all ranks: who they are to each other is not looked at beyond that.
std::shared_ptr<const net::tls_identity> ranks_identity() {
  static const auto one = test_cluster().identity("ranks");
  return one;
}

}  // namespace

std::unique_ptr<runtime::transport> rank_transport(const group_options& o, std::int32_t rank) {
  net::cpu_transport_options options;
  options.address = "127.0.0." + std::to_string(o.own_addresses ? rank + 1 : 1);
  options.choice = o.choice;
  options.timeout = o.timeout;
  options.name = "n" + std::to_string(rank);
  if (o.tls) options.own = ranks_identity();
  return net::make_cpu_transport(options);
}

void run_threads(const group_options& o, const rank_body& body) {
  std::vector<std::unique_ptr<runtime::transport>> transports;
  std::vector<std::string> cards;
  for (std::int32_t rank = 0; rank < o.size; ++rank) {
    transports.push_back(rank_transport(o, rank));
    cards.push_back(card_of(*transports.back()));
  }
  std::vector<std::exception_ptr> errors(transports.size());
  std::vector<std::thread> threads;
  for (std::int32_t rank = 0; rank < o.size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto i = static_cast<std::size_t>(rank);
      try {
        body(*meet(*transports[i], cards, rank));
      } catch (...) {
        errors[i] = std::current_exception();
      }
    });
  }
  for (auto& one : threads) one.join();
  for (const auto& one : errors)
    if (one) std::rethrow_exception(one);
}

rank_processes::rank_processes(const group_options& o, const rank_body& body) {
  if (o.tls) ranks_identity();  // before they are processes of their own
  std::vector<int> sockets;
  for (std::int32_t rank = 0; rank < o.size; ++rank) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
      throw std::runtime_error("socketpair failed");
    const auto child = fork();
    if (child == 0) {
      int status = 0;
      try {
        run_child(o, rank, pair[1], body);
      } catch (const std::exception& e) {
        std::fprintf(stderr, "rank %d: %s\n", rank, e.what());
        status = 1;
      }
      _exit(status);
    }
    children_.push_back(child);
    close(pair[1]);
    sockets.push_back(pair[0]);
  }
  std::string all(card_slot * sockets.size(), '\0');
  for (std::size_t i = 0; i < sockets.size(); ++i)
    if (::recv(sockets[i], all.data() + i * card_slot, card_slot, 0) <= 0)
      throw std::runtime_error("a rank did not start");
  for (const int one : sockets) {
    if (::send(one, all.data(), all.size(), 0) < 0) throw std::runtime_error("a rank ended early");
    close(one);
  }
}

rank_processes::~rank_processes() {
  for (std::size_t rank = 0; rank < children_.size(); ++rank) {
    if (children_[rank] <= 0) continue;
    kill(static_cast<std::int32_t>(rank));
    wait(static_cast<std::int32_t>(rank));
  }
}

void rank_processes::kill(std::int32_t rank) {
  ::kill(children_[static_cast<std::size_t>(rank)], SIGKILL);
}

std::int32_t rank_processes::wait(std::int32_t rank) {
  auto& child = children_[static_cast<std::size_t>(rank)];
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) return -1;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  child = 0;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool rank_processes::all_fine() {
  bool fine = true;
  for (std::size_t rank = 0; rank < children_.size(); ++rank)
    fine &= wait(static_cast<std::int32_t>(rank)) == 0;
  return fine;
}

}  // namespace dinfer::tests
