// SPDX-License-Identifier: Apache-2.0
// Children that end, hang, are left behind by their keeper, or cannot be started.
#include "actors/child_keeper.hpp"
#include "tests/actors/child_process.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/patience.hpp"
#include "tests/support/temporary_folder.hpp"

#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>

namespace dinfer::actors::tests {
namespace {

using std::chrono::milliseconds;
using strings = std::vector<std::string>;

const auto patience = dinfer::tests::patient(milliseconds(20'000));

// Collects what a keeper tells.
class ends {
 public:
  std::function<void(const child_end&)> sink() {
    return [this](const child_end& end) {
      const std::lock_guard lock(mutex_);
      all_.push_back(end);
      changed_.notify_all();
    };
  }
  std::vector<child_end> wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [&] { return all_.size() >= count; });
    return all_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<child_end> all_;
};

strings shell(const std::string& line) { return {"/bin/sh", "-c", line}; }

}  // namespace

TEST_CASE("a child that ends is started again, later each time, and it is told how it ended") {
  ends told;
  child_keeper keeper({shell("exit 3"), shell("kill -SEGV $$")}, told.sink());
  std::vector<milliseconds> again;
  for (const auto& end : told.wait_for(8)) {
    CHECK(end.how == (end.child == 0 ? "exit code 3" : "killed by SIGSEGV"));
    if (end.child == 0) again.push_back(end.again);
  }
  REQUIRE(again.size() >= 3);
  CHECK(again[0] == milliseconds(100));
  CHECK(again[1] == milliseconds(200));
  CHECK(again[2] == milliseconds(400));
}

TEST_CASE("a child that was asked to end is started again after a second") {
  ends told;
  child_keeper keeper({shell("exit 0")}, told.sink());
  const auto all = told.wait_for(1);
  REQUIRE(all.size() == 1);
  CHECK(all[0].how == "exit code 0");
  CHECK(all[0].again == milliseconds(1000));
}

TEST_CASE("a program that cannot be run counts as one that ended") {
  ends told;
  child_keeper keeper({{"/absent/program"}}, told.sink());
  const auto all = told.wait_for(1);
  REQUIRE(all.size() == 1);
  CHECK(all[0].how == "exit code 127");
}

TEST_CASE("a child that does not answer is killed and started again") {
  ends told;
  const dinfer::tests::temporary_folder folder;
  const auto file = folder.path("pid");
  child_keeper keeper({shell("echo $$ > " + file + "; kill -STOP $$")}, told.sink());
  for (int tries = 0; tries < 2000 && told.wait_for(0).empty(); ++tries) {
    pid_t pid = 0;
    if (std::ifstream(file) >> pid) {
      keeper.kill(7, pid);      // no such child
      keeper.kill(0, pid + 1);  // another process
      keeper.kill(0, pid);
    }
    ::usleep(10'000);
  }
  const auto all = told.wait_for(1);
  REQUIRE(!all.empty());
  CHECK(all[0].how == "did not answer and was killed");
}

TEST_CASE("stopping asks first, and kills who does not end") {
  const auto begin = std::chrono::steady_clock::now();
  ends told;
  child_keeper keeper({shell("trap '' TERM; while :; do sleep 1; done"), shell("sleep 1000")},
                      told.sink());
  keeper.stop(milliseconds(300));
  CHECK(std::chrono::steady_clock::now() - begin < patience);
  CHECK(told.wait_for(0).empty());  // who was asked to end is not told of
}

TEST_CASE("what a child has started does not outlive it") {
  const dinfer::tests::temporary_folder folder;
  const auto file = folder.path("started");
  const auto begin = std::chrono::steady_clock::now();
  ends told;
  child_keeper keeper({shell("sleep 1000 & echo > " + file + "; wait")}, told.sink());
  while (!std::ifstream(file) && std::chrono::steady_clock::now() < begin + patience)
    ::usleep(1000);
  keeper.stop(milliseconds(100));
  CHECK(std::chrono::steady_clock::now() - begin < patience);
}

TEST_CASE("children end with the process that keeps them", "[slow]") {
  const auto pid_of = [](const std::string& line) { return std::atoi(line.c_str()); };
  child_process parent({DINFER_TEST_NODE, "keep=1"});
  const auto line = parent.expect("child ", patience);
  REQUIRE(line);
  const auto child = pid_of(*line);
  REQUIRE(::kill(child, 0) == 0);
  parent.signal(SIGKILL);
  const auto deadline = child_process::clock::now() + patience;
  while (::kill(child, 0) == 0 && child_process::clock::now() < deadline) ::usleep(1000);
  CHECK(::kill(child, 0) != 0);
}

}  // namespace dinfer::actors::tests
