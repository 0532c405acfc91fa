// SPDX-License-Identifier: Apache-2.0
// See link_check.hpp. Ranks that are not in a group wait at the next meeting of all; a failure of
// one group ends the trials of all ranks, with what was found so far.
#include "runtime/check/link_check.hpp"

#include "kernels/communicator.hpp"
#include "runtime/check/rank_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <utility>

extern char** environ;  // POSIX leaves its declaration to the program

namespace dinfer::runtime {

namespace {

using kernels::communicator;
using kernels::device_error;
using std::chrono::milliseconds;
using steady = std::chrono::steady_clock;

constexpr std::int64_t small_bytes = 8 << 10;
constexpr std::int64_t large_bytes = 32 << 20, large_host_bytes = 4 << 20;
constexpr int small_rounds = 20, large_rounds = 3, samples = 5;
constexpr milliseconds most_joining{15'000};  // NCCL takes a second or two where all is well

// Bytes that one rank tells all others.
struct shared_id {
  std::uint8_t size = 0;
  std::array<char, 255> bytes{};
};

class link_check final : public runner {
 public:
  link_check(const runner_options& options, std::unique_ptr<transport> wires, std::string nccl_log)
      : options_(options), wires_(std::move(wires)), nccl_log_(std::move(nccl_log)) {}

  result<void> load(const load_progress& progress) override {
    DINFER_TRY(device_, kernels::open_device(options_.device, options_.device_options));
    if (progress) progress(1, 1);
    return {};
  }
  result<std::string> card() override { return wires_->card(); }
  result<std::string> check(std::span<const std::string> cards, milliseconds deadline) override;
  rank_report report() const override {
    rank_report out;
    if (device_) out.device_description = device_->traits().description;
    return out;
  }
  void abort() noexcept override {}  // every wait has a deadline

  // Not of a check.
  result<cache_size> size_cache() override { return no_model(); }
  result<void> connect(std::span<const std::string>, milliseconds) override { return no_model(); }
  result<void> start_cache(std::span<const std::uint32_t>, epoch_id) override { return no_model(); }
  void execute(const step_plan&, const result_sink& sink) override { sink(no_model()); }

 private:
  static tl::unexpected<error> no_model() {
    return fail(errc::mismatch, "this node checks links and holds no model");
  }
  using group = std::unique_ptr<communicator>;
  void describe();
  void try_all(communicator& all, std::span<const std::string> cards);
  link_figures try_group(communicator& all, const std::vector<std::int32_t>& ranks,
                         std::span<const std::string> cards);
  group join(const std::string& id, const std::vector<std::int32_t>& ranks,
             std::span<const std::string> cards);
  void measure(communicator& link, link_figures& figures);
  double seconds(communicator& link, int rounds, const std::function<void()>& work);
  transfer_figures time(communicator& link, const std::function<void(kernels::tensor)>& work);
  std::string logged_since(std::streamoff begin) const;
  std::streamoff logged() const;
  milliseconds joining() const { return std::min(options_.collective_timeout / 2, most_joining); }

  runner_options options_;
  std::unique_ptr<transport> wires_;
  std::string nccl_log_;
  std::unique_ptr<kernels::device> device_;
  std::uint32_t epoch_ = 0;  // of the group that is measured
  rank_check found_;
};

// Founded by its first member: what names it is told to all.
std::string share(communicator& all, std::int32_t root, const std::string& id) {
  shared_id told;
  told.size = static_cast<std::uint8_t>(id.size());
  std::copy(id.begin(), id.end(), told.bytes.begin());
  all.broadcast(kernels::view(&told, kernels::dtype::u8, sizeof told), root);
  return {told.bytes.data(), told.size};
}

// True when it is on every rank.
bool everywhere(communicator& all, bool here) {
  std::int32_t mine = here ? 1 : 0;
  std::vector<std::int32_t> of_all(static_cast<std::size_t>(all.size()));
  all.all_gather(kernels::view(&mine, kernels::dtype::i32, 1),
                 kernels::view(of_all.data(), kernels::dtype::i32, all.size()));
  return std::find(of_all.begin(), of_all.end(), 0) == of_all.end();
}

void link_check::describe() {
  found_ = {};
  found_.device = device_->traits().description;
  found_.software = device_->software();
  found_.memory_bytes = device_->traits().memory_bytes;
  found_.free_bytes = device_->free_bytes();
  for (char** one = environ; *one != nullptr; ++one)
    if (std::strncmp(*one, "NCCL_", 5) == 0) found_.settings.emplace_back(*one);
  std::sort(found_.settings.begin(), found_.settings.end());
}

result<std::string> link_check::check(std::span<const std::string> cards, milliseconds deadline) {
  try {
    describe();
    const auto now = [] { return std::chrono::system_clock::now().time_since_epoch(); };
    found_.clock_ns = std::chrono::nanoseconds(now()).count();
    if (cards.size() < 2) return encode(found_);
    DINFER_TRY(const auto all, wires_->join("check", cards, options_.layout.rank, {deadline}));
    all->reset(1);
    found_.clock_ns = std::chrono::nanoseconds(now()).count();
    try_all(*all, cards);
    return encode(found_);
  } catch (const device_error& e) {
    return fail(e.code(), e.what());
  }
}

void link_check::try_all(communicator& all, std::span<const std::string> cards) {
  for (const auto& ranks : groups_to_check(options_.layout.stages, options_.layout.tp_size)) {
    auto figures = try_group(all, ranks, cards);
    const bool fine = figures.failure.empty();
    if (ranks.front() == options_.layout.rank || !fine) found_.links.push_back(std::move(figures));
    if (!everywhere(all, fine)) return;
  }
}

link_figures link_check::try_group(communicator& all, const std::vector<std::int32_t>& ranks,
                                   std::span<const std::string> cards) {
  link_figures figures;
  figures.ranks = ranks;
  const auto rank = options_.layout.rank;
  const bool founder = rank == ranks.front();
  const auto begin = logged();
  std::string id;
  try {
    if (founder) id = device_->make_group_id();
  } catch (const device_error& e) {
    figures.failure = e.what();
  }
  id = share(all, ranks.front(), id);
  if (!everywhere(all, figures.failure.empty())) return figures;
  if (std::find(ranks.begin(), ranks.end(), rank) == ranks.end()) return figures;
  try {
    const auto link = join(id, ranks, cards);
    figures.wires = link->wires();
    measure(*link, figures);
  } catch (const device_error& e) {
    figures.failure = e.what();
  }
  if (founder && ranks.size() == 2) figures.nccl = read_nccl_log(logged_since(begin));
  return figures;
}

link_check::group link_check::join(const std::string& id, const std::vector<std::int32_t>& ranks,
                                   std::span<const std::string> cards) {
  const auto place = std::find(ranks.begin(), ranks.end(), options_.layout.rank) - ranks.begin();
  const auto index = static_cast<std::int32_t>(place);
  if (!id.empty()) {
    return device_->join_group(
        {id, index, static_cast<std::int32_t>(ranks.size()), ranks.size() == 2, joining()});
  }
  std::vector<std::string> theirs;
  for (const auto rank : ranks) theirs.push_back(cards[static_cast<std::size_t>(rank)]);
  auto made =
      wires_->join(fmt::format("check {}", fmt::join(ranks, "-")), theirs, index, {joining()});
  if (!made) throw device_error(made.error().code, made.error().message);
  return std::move(*made);
}

// Seconds of one `work`, on the rank that waits longest for it.
double link_check::seconds(communicator& link, int rounds, const std::function<void()>& work) {
  const auto done = device_->make_event();
  link.reset(++epoch_);  // all begin at once
  const auto begin = steady::now();
  for (int i = 0; i < rounds; ++i) work();
  done->record();
  done->wait(options_.collective_timeout);
  return std::chrono::duration<double>(steady::now() - begin).count() / rounds;
}

transfer_figures link_check::time(communicator& link,
                                  const std::function<void(kernels::tensor)>& work) {
  const auto large = device_->traits().host_memory ? large_host_bytes : large_bytes;
  const auto memory = device_->allocate(static_cast<std::size_t>(large), true);
  const auto floats = [&](std::int64_t bytes) {
    return kernels::view(memory.data(), kernels::dtype::f32, bytes / 4);
  };
  (void)seconds(link, 1, [&] { work(floats(large)); });  // connects
  double least_small = 1e9, least_large = 1e9;
  for (int i = 0; i < samples; ++i)
    least_small =
        std::min(least_small, seconds(link, small_rounds, [&] { work(floats(small_bytes)); }));
  for (int i = 0; i < large_rounds; ++i)
    least_large = std::min(least_large, seconds(link, 1, [&] { work(floats(large)); }));
  return {static_cast<std::uint64_t>(least_small * 1e9),
          static_cast<std::uint64_t>(static_cast<double>(large) / least_large)};
}

void link_check::measure(communicator& link, link_figures& figures) {
  epoch_ = 0;
  figures.all_reduce = time(link, [&](kernels::tensor x) { link.all_reduce(x); });
  if (link.size() != 2) return;
  figures.send = time(link, [&](kernels::tensor x) {
    if (link.rank() == 0) link.send(x, 1), link.recv(x, 1);
    else link.recv(x, 0), link.send(x, 0);
  });
  figures.send.latency_ns /= 2;  // there and back
  figures.send.bytes_per_second *= 2;
}

std::streamoff link_check::logged() const {
  if (nccl_log_.empty()) return 0;
  std::ifstream log(nccl_log_, std::ios::ate | std::ios::binary);
  return log ? static_cast<std::streamoff>(log.tellg()) : 0;
}

std::string link_check::logged_since(std::streamoff begin) const {
  if (nccl_log_.empty()) return {};
  std::ifstream log(nccl_log_, std::ios::binary);
  log.seekg(begin);
  return {std::istreambuf_iterator<char>(log), std::istreambuf_iterator<char>()};
}

}  // namespace

std::vector<std::vector<std::int32_t>> groups_to_check(std::int32_t stages, std::int32_t tp_size) {
  std::vector<std::vector<std::int32_t>> groups;
  for (std::int32_t stage = 0; stage < stages; ++stage) {
    std::vector<std::int32_t> ranks;
    for (std::int32_t i = 0; i < tp_size; ++i) {
      for (const auto before : ranks) groups.push_back({before, stage * tp_size + i});
      ranks.push_back(stage * tp_size + i);
    }
    if (tp_size > 2) groups.push_back(ranks);
  }
  for (std::int32_t rank = 0; rank < (stages - 1) * tp_size; ++rank)
    groups.push_back({rank, rank + tp_size});
  return groups;
}

std::unique_ptr<runner> make_link_check(const runner_options& options,
                                        std::unique_ptr<transport> wires, std::string nccl_log) {
  return std::make_unique<link_check>(options, std::move(wires), std::move(nccl_log));
}

}  // namespace dinfer::runtime
