// SPDX-License-Identifier: Apache-2.0
// See child_keeper.hpp. A child's end is seen as the end of a pipe, so that the thread can wait for
// all of them and for orders at once.
#include "actors/child_keeper.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace dinfer::actors {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds first_backoff{100}, most_backoff{5000}, long_life{10'000};
// One that was asked to end may be followed by its parent.
constexpr milliseconds backoff_when_asked{1000};
constexpr int pipe_fd = 3;
constexpr int no_exec = 127;

// Between fork and exec: only what is safe there. It keeps the pipe's end and the standard streams,
// and nothing of the parent's sockets.
[[noreturn]] void become(char* const* argv, int pipe_end, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(no_exec);  // it died before it was asked
  ::setpgid(0, 0);                              // Ctrl-C is the parent's to handle
  if (pipe_end != pipe_fd) ::dup2(pipe_end, pipe_fd);
  else ::fcntl(pipe_fd, F_SETFD, 0);
  ::close_range(pipe_fd + 1, ~0U, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv(argv[0], argv);
  ::_exit(no_exec);
}

std::string words_of(int status) {
  if (WIFEXITED(status)) return fmt::format("exit code {}", WEXITSTATUS(status));
  const char* name = ::sigabbrev_np(WTERMSIG(status));
  return name != nullptr ? fmt::format("killed by SIG{}", name)
                         : fmt::format("killed by signal {}", WTERMSIG(status));
}

}  // namespace

child_keeper::child_keeper(std::vector<std::vector<std::string>> commands,
                           std::function<void(const child_end&)> on_end)
    : on_end_(std::move(on_end)) {
  for (auto& command : commands) {
    children_.emplace_back();
    children_.back().command = std::move(command);
  }
  if (::pipe2(wake_, O_CLOEXEC | O_NONBLOCK) != 0) return;
  thread_ = std::thread([this] { run(); });
}

child_keeper::~child_keeper() {
  stop(milliseconds(0));
  for (const int fd : wake_)
    if (fd >= 0) ::close(fd);
}

void child_keeper::kill(std::size_t index, pid_t pid) {
  const std::lock_guard lock(mutex_);
  if (index >= children_.size() || pid <= 0 || children_[index].pid != pid) return;
  children_[index].killed = true;
  ::kill(-pid, SIGKILL);
}

void child_keeper::stop(milliseconds grace) {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    kill_at_ = clock::now() + grace;
    signal_all(grace.count() > 0 ? SIGTERM : SIGKILL);
  }
  wake();
  thread_.join();
}

void child_keeper::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_ || any_alive()) {
    const auto now = clock::now();
    if (stopping_ && now >= kill_at_) signal_all(SIGKILL);
    for (auto& one : children_)
      if (!stopping_ && one.pid < 0 && one.due <= now) start(one);
    std::vector<pollfd> fds{{wake_[0], POLLIN, 0}};
    for (const auto& one : children_) fds.push_back({one.alive, 0, 0});  // -1 is passed over
    const int limit = wait_ms(now);
    lock.unlock();
    ::poll(fds.data(), fds.size(), limit);
    char sink[64];
    while (::read(wake_[0], sink, sizeof sink) > 0) {
    }
    lock.lock();
    std::vector<std::size_t> ended;
    for (std::size_t i = 0; i < children_.size(); ++i)
      if (fds[i + 1].fd >= 0 && fds[i + 1].revents != 0) ended.push_back(i);
    for (const auto i : ended) {
      lock.unlock();  // on_end may call kill()
      reap(i);
      lock.lock();
    }
  }
}

// A child that cannot be started counts as one that ended.
void child_keeper::start(child& one) {
  std::vector<char*> argv;
  for (auto& word : one.command) argv.push_back(word.data());
  argv.push_back(nullptr);
  one.killed = false;
  one.started = clock::now();
  one.due = one.started + most_backoff;
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  const auto self = ::getpid();
  one.pid = ::fork();
  if (one.pid == 0) become(argv.data(), ends[1], self);
  ::close(ends[1]);
  one.alive = ends[0];
  if (one.pid > 0) {
    ::setpgid(one.pid, one.pid);  // as it does itself; whoever comes second changes nothing
    return;
  }
  ::close(std::exchange(one.alive, -1));
  one.pid = -1;
}

void child_keeper::reap(std::size_t index) {
  child_end told{index, -1, "", milliseconds(0)};
  bool last = false;
  {
    const std::lock_guard lock(mutex_);
    auto& one = children_[index];
    int status = 0;
    // It never closes its end of the pipe itself: the system has begun to take it down.
    while (::waitpid(one.pid, &status, 0) < 0 && errno == EINTR) {
    }
    told.how = one.killed ? "did not answer and was killed" : words_of(status);
    told.pid = std::exchange(one.pid, -1);
    ::close(std::exchange(one.alive, -1));
    const auto now = clock::now();
    one.backoff = now - one.started >= long_life
                      ? first_backoff
                      : std::clamp(2 * one.backoff, first_backoff, most_backoff);
    told.again = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? backoff_when_asked : one.backoff;
    one.due = now + told.again;
    last = stopping_;
  }
  if (!last && on_end_) on_end_(told);
}

int child_keeper::wait_ms(clock::time_point now) const {
  auto next = clock::time_point::max();
  if (stopping_) {
    if (now < kill_at_) next = kill_at_;
  } else {
    for (const auto& one : children_)
      if (one.pid < 0) next = std::min(next, one.due);
  }
  if (next == clock::time_point::max()) return -1;
  return static_cast<int>(
      std::max<std::int64_t>(0, std::chrono::ceil<milliseconds>(next - now).count()));
}

bool child_keeper::any_alive() const {
  return std::any_of(children_.begin(), children_.end(), [](const child& c) { return c.pid > 0; });
}

// A kill is for all that a child has started: those hold its end of the pipe too.
void child_keeper::signal_all(int number) {
  for (const auto& one : children_)
    if (one.pid > 0) ::kill(number == SIGKILL ? -one.pid : one.pid, number);
}

void child_keeper::wake() const {
  const char byte = 0;
  [[maybe_unused]] const auto written = ::write(wake_[1], &byte, 1);
}

}  // namespace dinfer::actors
