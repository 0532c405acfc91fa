// SPDX-License-Identifier: Apache-2.0
// A child process whose stdout is read line by line with deadlines. Killed with its owner.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace dinfer::actors::tests {

class child_process {
 public:
  using clock = std::chrono::steady_clock;

  explicit child_process(const std::vector<std::string>& command) {
    int ends[2] = {-1, -1};
    if (::pipe(ends) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(ends[1], STDOUT_FILENO);
      ::close(ends[0]);
      ::close(ends[1]);
      std::vector<char*> argv;
      for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
      argv.push_back(nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    out_ = ends[0];
  }
  ~child_process() {
    if (pid_ > 0 && !code_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (out_ >= 0) ::close(out_);
  }
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;

  void signal(int number) const { ::kill(pid_, number); }

  // The next line that starts with `prefix`, without it; lines before it are dropped.
  std::optional<std::string> expect(const std::string& prefix, std::chrono::milliseconds limit) {
    const auto deadline = clock::now() + limit;
    for (;;) {
      while (auto text = take_line()) {
        seen_ += *text + "\n";
        if (text->compare(0, prefix.size(), prefix) == 0) return text->substr(prefix.size());
      }
      if (!read_more(deadline)) return std::nullopt;
    }
  }

  // The exit code, or nothing when it still runs; a signal counts as 128 + number.
  std::optional<int> wait(std::chrono::milliseconds limit) {
    const auto deadline = clock::now() + limit;
    while (read_more(deadline)) {
    }
    while (!code_ && clock::now() < deadline) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_)
        code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      else ::usleep(1000);
    }
    return code_;
  }

  // Everything that was read, for messages.
  std::string seen() const { return seen_ + pending_; }

 private:
  std::optional<std::string> take_line() {
    const auto end = pending_.find('\n');
    if (end == std::string::npos) return std::nullopt;
    auto text = pending_.substr(0, end);
    pending_.erase(0, end + 1);
    return text;
  }
  // False at the deadline and at the end of the stream.
  bool read_more(clock::time_point deadline) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()).count();
    pollfd wait{out_, POLLIN, 0};
    if (left <= 0 || ::poll(&wait, 1, static_cast<int>(left)) <= 0) return false;
    char buffer[4096];
    const auto n = ::read(out_, buffer, sizeof buffer);
    if (n <= 0) return false;
    pending_.append(buffer, static_cast<std::size_t>(n));
    return true;
  }

  pid_t pid_ = -1;
  int out_ = -1;
  std::string pending_, seen_;
  std::optional<int> code_;
};

}  // namespace dinfer::actors::tests
