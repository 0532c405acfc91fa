// SPDX-License-Identifier: Apache-2.0
// dinfer-sim: runs simulated clusters, one a seed, and prints the first seed whose invariants
// break.
#include "runtime/base/log.hpp"
#include "tests/sim/cluster.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

namespace {

using namespace dinfer::sim;

constexpr const char* usage =
    "usage: dinfer-sim [--trace] [--twice] [--plant BUG] SEED | --seeds FIRST..LAST\n"
    "  --trace  prints everything that happens\n"
    "  --twice  runs every seed twice: both must be equal\n"
    "  --plant  lost-result, double-free or stale-epoch: a bug of the simulator's own\n"
    "exit code 0: no invariant broke, 1: one did, 2: bad arguments\n";

struct arguments {
  std::uint64_t first = 0, last = 0;  // without the last
  bool one = false, trace = false, twice = false;
  plant bug = plant::none;
};

bool number(std::string_view text, std::uint64_t& out) {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  return !text.empty() && read.ec == std::errc{} && read.ptr == text.data() + text.size();
}

std::optional<plant> plant_of(std::string_view name) {
  if (name == "lost-result") return plant::lost_result;
  if (name == "double-free") return plant::double_free;
  if (name == "stale-epoch") return plant::stale_epoch;
  return std::nullopt;
}

std::optional<arguments> read(int argc, char** argv) {
  arguments out;
  bool seeds = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const std::string_view value = i + 1 < argc ? argv[i + 1] : "";
    if (word == "--trace") out.trace = true;
    else if (word == "--twice") out.twice = true;
    else if (word == "--plant") {
      const auto bug = plant_of(value);
      if (!bug) return std::nullopt;
      out.bug = *bug;
      ++i;
    } else if (word == "--seeds") {
      const auto dots = value.find("..");
      if (dots == std::string_view::npos || !number(value.substr(0, dots), out.first) ||
          !number(value.substr(dots + 2), out.last) || out.first >= out.last)
        return std::nullopt;
      seeds = true;
      ++i;
    } else if (number(word, out.first)) {
      out.last = out.first + 1;
      out.one = true;
    } else {
      return std::nullopt;
    }
  }
  if (seeds == out.one) return std::nullopt;
  return out;
}

// An assertion of the product, or a crash, ends the process: the seed must still be known.
volatile std::uint64_t seed_now = 0;

extern "C" void tell_seed(int number) {
  char text[80];
  const char* what =
      number == SIGABRT ? "an assertion of the product does not hold" : "the product crashes";
  const auto end =
      fmt::format_to_n(text, sizeof text, "seed {} fails: {}\n", seed_now + 0, what).out;
  [[maybe_unused]] const auto written =
      ::write(STDOUT_FILENO, text, static_cast<std::size_t>(end - text));
  ::_exit(1);
}

outcome run(std::uint64_t seed, const arguments& how, bool trace) {
  seed_now = seed;
  cluster simulated(seed, draw_scenario(seed), how.bug, trace);
  return simulated.run();
}

void add(tally& all, const tally& one) {
  all.finished += one.finished;
  all.refused += one.refused;
  all.failed += one.failed;
  all.aborted += one.aborted;
  all.disconnected += one.disconnected;
  all.tokens += one.tokens;
}

std::string words_of(const tally& t) {
  return fmt::format(
      "{} requests finished, {} refused, {} failed, {} aborted, {} disconnected; {} "
      "tokens",
      t.finished, t.refused, t.failed, t.aborted, t.disconnected, t.tokens);
}

}  // namespace

int main(int argc, char** argv) {
  const auto how = read(argc, argv);
  if (!how) {
    fmt::print(stderr, "{}", usage);
    return 2;
  }
  std::signal(SIGABRT, tell_seed);
  std::signal(SIGSEGV, tell_seed);
  dinfer::runtime::open_log(how->trace ? "warn" : "off", false, "sim");
  if (how->one) fmt::print("seed {}: {}", how->first, words_of(draw_scenario(how->first)));
  outcome sum;
  std::uint64_t slowest = how->first;
  const auto begin = std::chrono::steady_clock::now();
  for (auto seed = how->first; seed < how->last; ++seed) {
    auto one = run(seed, *how, how->trace);
    if (how->twice && one.failure.empty() && run(seed, *how, false).hash != one.hash)
      one.failure = "it runs differently the second time";
    if (how->one)
      fmt::print(
          "seed {}: {}; {} messages, {} faults told, {} lives of processes, {:.1f} s, hash "
          "{:016x}\n",
          seed, words_of(one.counts), one.messages, one.faults_told, one.lives,
          static_cast<double>(one.time) / second, one.hash);
    if (!one.failure.empty()) {
      fmt::print("seed {} fails: {}\n", seed, one.failure);
      return 1;
    }
    add(sum.counts, one.counts);
    sum.messages += one.messages;
    sum.lives += one.lives;
    sum.faults_told += one.faults_told;
    sum.time += one.time;
    if (one.recovery > sum.recovery) {
      sum.recovery = one.recovery;
      slowest = seed;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const auto seeds = static_cast<double>(how->last - how->first);
  if (!how->one)
    fmt::print(
        "{} seeds without a failure: {}; {} messages, {} faults told, {} lives of processes, "
        "{:.0f} s of simulated time, the slowest recovery {:.1f} s (seed {}); {:.1f} s, {:.0f} "
        "seeds/s\n",
        how->last - how->first, words_of(sum.counts), sum.messages, sum.faults_told, sum.lives,
        static_cast<double>(sum.time) / second, static_cast<double>(sum.recovery) / second, slowest,
        took.count(), seeds / took.count());
  return 0;
}
