// SPDX-License-Identifier: Apache-2.0
// See child_nodes.hpp.
#include "apps/dinfer/child_nodes.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>

namespace dinfer::apps {

namespace {

constexpr int no_exec = 127;
constexpr auto glance = std::chrono::milliseconds(10);
constexpr auto after_failure = std::chrono::seconds(2);  // the others have heard of it by then
constexpr std::string_view complaint = "dinfer-node: ";

// It lies where this program does.
std::string node_program() {
  std::error_code absent;
  return (std::filesystem::read_symlink("/proc/self/exe", absent).parent_path() / "dinfer-node")
      .string();
}

// Between fork and exec: only what is safe there.
[[noreturn]] void become(char* const* argv, int output, int errors, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(no_exec);  // it died before it was asked
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  ::execv(argv[0], argv);
  ::_exit(no_exec);
}

std::string all_of(int file) {
  std::string out;
  char part[4096];
  for (ssize_t n = 0; (n = ::pread(file, part, sizeof part, static_cast<off_t>(out.size()))) > 0;)
    out.append(part, static_cast<std::size_t>(n));
  return out;
}

}  // namespace

result<void> child_nodes::start(const std::string& name,
                                const std::vector<std::string>& arguments) {
  const auto program = node_program();
  if (::access(program.c_str(), X_OK) != 0)
    return fail(errc::io_error, program + ": " + std::strerror(errno));
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const auto& word : arguments) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  child one;
  one.name = name;
  one.output = ::memfd_create("output", MFD_CLOEXEC);
  one.errors = ::memfd_create("errors", MFD_CLOEXEC);
  const auto parent = ::getpid();
  if (one.output >= 0 && one.errors >= 0) one.pid = ::fork();
  if (one.pid == 0) become(argv.data(), one.output, one.errors, parent);
  const int why = errno;
  children_.push_back(one);
  if (one.pid < 0)
    return fail(errc::io_error, "cannot start " + program + ": " + std::strerror(why));
  return {};
}

result<void> child_nodes::start_all(const cluster_config& config,
                                    std::span<const std::size_t> nodes, const setting_flags& flags,
                                    const std::vector<std::string>& more) {
  for (const auto index : nodes) {
    const auto& name = config.nodes[index].name;
    auto words = flags.words();
    if (!config.file.empty()) words.insert(words.begin(), {"--config", config.file});
    words.insert(words.end(), {"--node", name});
    words.insert(words.end(), more.begin(), more.end());
    DINFER_CHECK(start(name, words));
  }
  return {};
}

std::optional<int> child_nodes::ended(std::size_t i) {
  auto& one = children_[i];
  int status = 0;
  if (one.code || one.pid < 0 || ::waitpid(one.pid, &status, WNOHANG) != one.pid) return one.code;
  one.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return one.code;
}

bool child_nodes::wait(std::chrono::milliseconds time) {
  auto end = std::chrono::steady_clock::now() + time;
  while (true) {
    std::size_t running = 0;
    bool failed = false;
    for (std::size_t i = 0; i < children_.size(); ++i) {
      if (const auto code = ended(i)) failed = failed || *code != 0;
      else if (children_[i].pid > 0) ++running;
    }
    const auto now = std::chrono::steady_clock::now();
    if (running == 0 || now >= end) return running == 0;
    if (failed) end = std::min(end, now + after_failure);
    std::this_thread::sleep_for(glance);
  }
}

std::string child_nodes::output(std::size_t i) const { return all_of(children_[i].output); }

std::vector<std::string> child_nodes::complaints(std::size_t i) const {
  std::istringstream lines(all_of(children_[i].errors));
  const auto said = "node " + children_[i].name + ": ";
  std::vector<std::string> out;
  std::string line, last;
  while (std::getline(lines, line))
    if (line.starts_with(complaint)) out.push_back(said + line.substr(complaint.size()));
    else if (!line.empty()) last = line;
  if (out.empty() && children_[i].code.value_or(0) != 0) out.push_back(said + last);
  return out;
}

void child_nodes::stop(std::chrono::milliseconds grace) {
  const auto tell_all = [this](int signal) {
    for (std::size_t i = 0; i < children_.size(); ++i)
      if (children_[i].pid > 0 && !ended(i)) ::kill(children_[i].pid, signal);
  };
  tell_all(SIGTERM);
  if (!wait(grace)) {
    tell_all(SIGKILL);
    wait(std::chrono::seconds(1));
  }
  for (const auto& one : children_) {
    ::close(one.output);
    ::close(one.errors);
  }
  children_.clear();
}

}  // namespace dinfer::apps
