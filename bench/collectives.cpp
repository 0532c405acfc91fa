// SPDX-License-Identifier: Apache-2.0
// Microseconds of an all-reduce over each wire: bench_collectives [milliseconds per line]. Ranks
// are threads (local) or processes (shared memory, TCP, TCP with TLS) of this machine. The bound is
// the time to move the least bytes (2 (n - 1) / n of the tensor in and out of every rank) at the
// speed of a plain copy by one thread, all ranks sharing the processors.
#include "kernels/device.hpp"
#include "net/comm/transport.hpp"
#include "net/tls/issue.hpp"

#include <fmt/core.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace dinfer;
using clock_type = std::chrono::steady_clock;

struct setup {
  const char* wire;
  transport_choice choice;
  bool processes, tls;
};
constexpr setup setups[] = {{"local", transport_choice::automatic, false, false},
                            {"shared memory", transport_choice::shared_memory, true, false},
                            {"tcp", transport_choice::tcp, true, false},
                            {"tcp with TLS", transport_choice::tcp, true, true}};
constexpr std::int64_t sizes[] = {64, 8 << 10, 64 << 10, 1 << 20};

[[noreturn]] void stop(const std::string& why) {
  fmt::print(stderr, "bench_collectives: {}\n", why);
  std::_Exit(1);
}

double microseconds_since(clock_type::time_point start) {
  return std::chrono::duration<double, std::micro>(clock_type::now() - start).count();
}

double copy_bytes_per_us() {
  std::vector<char> from(64 << 20, 1), to(from.size());
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const auto start = clock_type::now();
    std::memcpy(to.data(), from.data(), from.size());
    best = std::max(best, static_cast<double>(from.size()) / microseconds_since(start));
  }
  return best;
}

// Rank 0 decides how often, from a first guess, and reports; ranks agree through a broadcast.
void measure(kernels::communicator& c, const char* wire, double wanted_us, double copy_speed) {
  for (const auto bytes : sizes) {
    std::vector<float> data(static_cast<std::size_t>(bytes) / sizeof(float), 1.0f);
    const auto tensor = kernels::view(data.data(), kernels::dtype::f32, bytes / 4);
    const auto run = [&](std::int32_t count) {
      const auto start = clock_type::now();
      for (std::int32_t i = 0; i < count; ++i) c.all_reduce(tensor);
      return microseconds_since(start) / count;
    };
    std::int32_t count = std::max(10, static_cast<std::int32_t>(wanted_us / 5 / run(50)));
    c.broadcast(kernels::view(&count, kernels::dtype::i32, 1), 0);
    std::vector<double> times;
    for (int i = 0; i < 5; ++i) times.push_back(run(count));
    std::nth_element(times.begin(), times.begin() + 2, times.end());
    const double ranks = c.size(), cores = std::thread::hardware_concurrency();
    const double bound = 4 * (ranks - 1) / ranks * static_cast<double>(bytes) / copy_speed *
                         std::max(1.0, ranks / cores);
    if (c.rank() == 0)
      fmt::print("{:14} {} ranks {:8} B {:10.1f} us   bound {:8.2f} us   {:4.0f} %\n", wire,
                 c.size(), bytes, times[2], bound, 100 * bound / times[2]);
  }
}

void run_rank(runtime::transport& own, const std::vector<std::string>& cards, std::int32_t rank,
              const char* wire, double wanted_us, double copy_speed) {
  auto made = own.join("bench", cards, rank, {std::chrono::seconds(10)});
  if (!made) stop(made.error().message);
  measure(**made, wire, wanted_us, copy_speed);
}

std::shared_ptr<const net::tls_identity> make_identity() {
  char folder[] = "/tmp/dinfer_collectives.XXXXXX";
  if (mkdtemp(folder) == nullptr) stop("no temporary folder");
  const security_section files{false, std::string(folder) + "/ca", std::string(folder) + "/crt",
                               std::string(folder) + "/key"};
  const net::validity day{std::time(nullptr) - 60, std::time(nullptr) + 86'400};
  const auto authority = net::make_authority(day);
  const auto node = authority ? net::issue_certificate(*authority, "rank", {}, day) : authority;
  if (!node) stop(node.error().message);
  std::ofstream(files.tls_ca_file) << authority->certificate;
  std::ofstream(files.tls_certificate_file) << node->certificate;
  std::ofstream(files.tls_key_file) << node->key;
  auto loaded = net::tls_identity::load(files, "rank");
  std::filesystem::remove_all(folder);
  if (!loaded) stop(loaded.error().message);
  return *loaded;
}

// Made before ranks are processes of their own.
std::shared_ptr<const net::tls_identity> identity() {
  static const auto one = make_identity();
  return one;
}

std::unique_ptr<runtime::transport> make_transport(const setup& s, std::string& card) {
  auto made = net::make_cpu_transport(
      {"127.0.0.1", s.choice, std::chrono::seconds(30), "rank", s.tls ? identity() : nullptr});
  auto text = made->card();
  if (!text) stop(text.error().message);
  card = *text;
  return made;
}

void run_threads(const setup& s, std::int32_t size, double wanted_us, double copy_speed) {
  std::vector<std::string> cards(static_cast<std::size_t>(size));
  std::vector<std::unique_ptr<runtime::transport>> transports;
  for (auto& card : cards) transports.push_back(make_transport(s, card));
  std::vector<std::thread> threads;
  for (std::int32_t rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      run_rank(*transports[static_cast<std::size_t>(rank)], cards, rank, s.wire, wanted_us,
               copy_speed);
    });
  for (auto& one : threads) one.join();
}

// Children send their cards up a socket pair and get everyone's back.
void run_processes(const setup& s, std::int32_t size, double wanted_us, double copy_speed) {
  constexpr std::size_t slot = 1024;
  if (s.tls) identity();
  std::vector<int> sockets;
  for (std::int32_t rank = 0; rank < size; ++rank) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) stop("socketpair failed");
    if (fork() == 0) {
      std::vector<char> text(slot * static_cast<std::size_t>(size));
      std::string card;
      auto own = make_transport(s, card);
      card.resize(slot);
      if (send(pair[1], card.data(), slot, 0) < 0) stop("sending a card failed");
      if (recv(pair[1], text.data(), text.size(), 0) < 0) stop("receiving cards failed");
      std::vector<std::string> cards;
      for (std::size_t i = 0; i < text.size(); i += slot) cards.emplace_back(text.data() + i);
      run_rank(*own, cards, rank, s.wire, wanted_us, copy_speed);
      std::fflush(stdout);
      std::_Exit(0);
    }
    close(pair[1]);
    sockets.push_back(pair[0]);
  }
  std::string all(slot * static_cast<std::size_t>(size), '\0');
  for (std::size_t i = 0; i < sockets.size(); ++i)
    if (recv(sockets[i], all.data() + i * slot, slot, 0) <= 0) stop("a rank did not start");
  for (const int one : sockets)
    if (send(one, all.data(), all.size(), 0) < 0) stop("sending cards failed");
  for (std::size_t i = 0; i < sockets.size(); ++i) wait(nullptr);
  for (const int one : sockets) close(one);
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const double wanted_us = 1000 * (argc > 1 ? std::max(1.0, std::atof(argv[1])) : 200.0);
  const double copy_speed = copy_bytes_per_us();
  fmt::print("copy by one thread: {:.1f} GB/s\n", copy_speed / 1000);
  for (const auto& s : setups)
    for (const std::int32_t size : {2, 3, 4})
      s.processes ? run_processes(s, size, wanted_us, copy_speed)
                  : run_threads(s, size, wanted_us, copy_speed);
}
