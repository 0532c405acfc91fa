// SPDX-License-Identifier: Apache-2.0
// libdinfer_profile.so: which kernels a GPU ran, how long, and how long it waited between them. Any
// CUDA program loads it by itself, without being changed:
//
//   export CUDA_INJECTION64_PATH=$PWD/build/cuda/bin/libdinfer_profile.so
//   export DINFER_PROFILE=profile.txt DINFER_PROFILE_LAST_MS=500
//   build/cuda/bin/bench_engine --random --model bench/models/llama-3.1-8b step_ms_b1
//
// Where libcupti.so.13 is not found: LD_LIBRARY_PATH=.../site-packages/nvidia/cu13/lib (PyPI's
// nvidia-cuda-cupti) or .../cuda/extras/CUPTI/lib64.
//
// At the program's exit a table goes to the file DINFER_PROFILE, or to stderr. Kernels (those of
// graphs one by one), copies and memsets of all GPUs and streams of the process count, and of these
// only what begins DINFER_PROFILE_SKIP_MS after the first one, and in the last
// DINFER_PROFILE_LAST_MS of all; with DINFER_PROFILE_RECORDED=1 only what graphs run, which are
// decoding steps, and idle is what lies between. Times are the GPU's own. Being watched stretches
// the gaps inside of graphs, not the kernels: compare sums of kernels with the time of an unwatched
// step. Kernels may overlap: "own" is what one adds to what those before it kept busy, and all of
// these make up the busy time. bench/breakdown.py reads the table.
//
// CUPTI's records come in buffers on a thread of its own.
#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

struct activity {
  std::uint64_t begin = 0, end = 0;  // ns
  std::uint32_t name = 0;
  bool recorded = false;  // in a graph
};

void erase_all(std::string& text, const std::string& part) {
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at)) {
    text.erase(at, part.size());
  }
}

// The list of parameters at the end of a demangled function.
void erase_parameters(std::string& text) {
  if (text.empty() || text.back() != ')') return;
  int depth = 0;
  for (std::size_t i = text.size(); i-- > 1;) {
    if (text[i] == ')') ++depth;
    if (text[i] == '(' && --depth == 0) return text.erase(i), void();
  }
}

std::string readable(const std::string& name) {
  constexpr std::size_t longest = 90;
  int status = 0;
  char* const demangled = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string text = status == 0 && demangled != nullptr ? demangled : name;
  std::free(demangled);
  erase_parameters(text);
  erase_all(text, "(anonymous namespace)::");
  erase_all(text, "dinfer::kernels::cuda::");
  erase_all(text, "dinfer::kernels::");
  if (text.starts_with("void ")) text.erase(0, 5);
  if (text.size() > longest) text.replace(longest - 2, std::string::npos, "..");
  return text;
}

const char* copy_name(std::uint8_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
      return "copy host to device";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
      return "copy device to host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return "copy device to device";
    default:
      return "copy";
  }
}

double milliseconds(std::uint64_t ns) { return static_cast<double>(ns) * 1e-6; }

// Of the environment; 0 when it is not set.
std::uint64_t nanoseconds_of(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : static_cast<std::uint64_t>(std::max(0.0, std::atof(text)) * 1e6);
}

struct gap_bin {
  const char* what;
  std::uint64_t below;  // ns
  std::uint64_t count = 0, total = 0;
};

// When anything ran, which names kept it so, and the gaps between.
struct timeline {
  std::uint64_t busy = 0, idle = 0;
  std::array<gap_bin, 5> gaps{{{"< 2 us", 2'000},
                               {"2-5 us", 5'000},
                               {"5-20 us", 20'000},
                               {"20-100 us", 100'000},
                               {"> 100 us", UINT64_MAX}}};
  std::vector<std::uint64_t> own;  // by name

  // In order of their begin.
  timeline(const std::vector<activity>& all, std::size_t names) : own(names) {
    std::uint64_t end = all.front().begin;  // of all so far
    for (const activity& a : all) {
      if (a.begin > end) add_gap(a.begin - end);
      if (a.end <= end) continue;
      const std::uint64_t added = a.end - std::max(a.begin, end);
      busy += added;
      own[a.name] += added;
      end = a.end;
    }
  }

 private:
  void add_gap(std::uint64_t ns) {
    idle += ns;
    auto& bin = *std::find_if(gaps.begin(), gaps.end(), [&](auto& g) { return ns < g.below; });
    ++bin.count;
    bin.total += ns;
  }
};

class collector {
 public:
  void add(std::uint8_t* buffer, std::size_t bytes, std::size_t dropped) {
    const std::lock_guard lock(mutex_);
    dropped_ += dropped;
    // A name's address is good for as long as its module is loaded: not longer than this buffer.
    std::unordered_map<const char*, std::uint32_t> known;
    CUpti_Activity* record = nullptr;
    while (cuptiActivityGetNextRecord(buffer, bytes, &record) == CUPTI_SUCCESS) {
      if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL ||
          record->kind == CUPTI_ACTIVITY_KIND_KERNEL) {
        const auto* const k = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
        const char* const name = k->name != nullptr ? k->name : "a kernel without a name";
        const auto found = known.find(name);
        const std::uint32_t id = found != known.end() ? found->second : known[name] = id_of(name);
        add({k->start, k->end, id, k->graphId != 0});
      } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
        const auto* const c = reinterpret_cast<const CUpti_ActivityMemcpy6*>(record);
        add({c->start, c->end, id_of(copy_name(c->copyKind)), c->graphId != 0});
      } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
        const auto* const m = reinterpret_cast<const CUpti_ActivityMemset4*>(record);
        add({m->start, m->end, id_of("memset"), m->graphId != 0});
      }
    }
  }

  void write(std::FILE* out) {
    const std::lock_guard lock(mutex_);
    if (dropped_ > 0) std::fprintf(out, "%zu records were lost\n", dropped_);
    const std::size_t all = activities_.size();
    const std::uint64_t skipped = cut();
    if (activities_.empty()) {
      std::fprintf(out, "none of %zu activities lies in the window\n", all);
      return;
    }
    const timeline times(activities_, names_.size());
    std::fprintf(out, "%zu of %zu activities%s, the first %.3f ms after the very first\n",
                 activities_.size(), all, only_recorded() ? " (those of graphs)" : "",
                 milliseconds(skipped));
    std::fprintf(out, "span %.3f ms: busy %.3f ms, idle %.3f ms (%.1f %%)\n",
                 milliseconds(times.busy + times.idle), milliseconds(times.busy),
                 milliseconds(times.idle),
                 100.0 * static_cast<double>(times.idle) /
                     static_cast<double>(std::max<std::uint64_t>(1, times.busy + times.idle)));
    std::fprintf(out, "\n%-10s %9s %11s\n", "gaps", "count", "total ms");
    for (const auto& g : times.gaps) {
      std::fprintf(out, "%-10s %9llu %11.3f\n", g.what, static_cast<unsigned long long>(g.count),
                   milliseconds(g.total));
    }
    write_names(out, times);
  }

 private:
  struct sum {
    std::uint64_t count = 0, total = 0, own = 0;
    std::uint32_t name = 0;
  };

  std::uint32_t id_of(const char* name) {
    const auto [at, fresh] = ids_.try_emplace(name, static_cast<std::uint32_t>(names_.size()));
    if (fresh) names_.push_back(at->first);
    return at->second;
  }

  void add(const activity& a) {
    if (a.end > 0 && a.end >= a.begin) activities_.push_back(a);
  }

  static bool only_recorded() {
    const char* const text = std::getenv("DINFER_PROFILE_RECORDED");
    return text != nullptr && text == std::string("1");
  }

  // Sorts and leaves the window; returns how much later it begins.
  std::uint64_t cut() {
    if (activities_.empty()) return 0;
    std::sort(activities_.begin(), activities_.end(),
              [](const activity& a, const activity& b) { return a.begin < b.begin; });
    std::uint64_t last = 0;
    for (const activity& a : activities_) last = std::max(last, a.end);
    const std::uint64_t first = activities_.front().begin;
    std::uint64_t from = first + nanoseconds_of("DINFER_PROFILE_SKIP_MS");
    const std::uint64_t kept = nanoseconds_of("DINFER_PROFILE_LAST_MS");
    if (kept > 0 && last > kept) from = std::max(from, last - kept);
    const bool all = !only_recorded();
    std::erase_if(activities_,
                  [&](const activity& a) { return a.begin < from || !(all || a.recorded); });
    return activities_.empty() ? 0 : activities_.front().begin - first;
  }

  void write_names(std::FILE* out, const timeline& times) const {
    std::vector<sum> sums(names_.size());
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i].name = static_cast<std::uint32_t>(i);
      sums[i].own = times.own[i];
    }
    for (const activity& a : activities_) {
      ++sums[a.name].count;
      sums[a.name].total += a.end - a.begin;
    }
    std::sort(sums.begin(), sums.end(), [](const sum& a, const sum& b) { return a.own > b.own; });
    std::fprintf(out, "\n%11s %11s %9s %10s %7s  %s\n", "total ms", "own ms", "count", "mean us",
                 "of busy", "name");
    for (const sum& s : sums) {
      if (s.count == 0) continue;
      const auto total = static_cast<double>(s.total);
      std::fprintf(out, "%11.3f %11.3f %9llu %10.2f %6.1f%%  %s\n", total * 1e-6,
                   milliseconds(s.own), static_cast<unsigned long long>(s.count),
                   total * 1e-3 / static_cast<double>(s.count),
                   100 * static_cast<double>(s.own) /
                       static_cast<double>(std::max<std::uint64_t>(1, times.busy)),
                   readable(names_[s.name]).c_str());
    }
  }

  std::mutex mutex_;
  std::vector<activity> activities_;
  std::unordered_map<std::string, std::uint32_t> ids_;
  std::vector<std::string> names_;
  std::size_t dropped_ = 0;
};

// Never destroyed: records may come while the process ends.
collector& all_activities() {
  static auto* const made = new collector;
  return *made;
}

constexpr std::size_t buffer_bytes = std::size_t{8} << 20, buffer_alignment = 8;

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* most_records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(buffer_alignment, buffer_bytes));
  *size = *buffer == nullptr ? 0 : buffer_bytes;
  *most_records = 0;  // as many as fit
}

void CUPTIAPI take_buffer(CUcontext context, std::uint32_t stream, std::uint8_t* buffer,
                          std::size_t, std::size_t valid_bytes) {
  std::size_t dropped = 0;
  (void)cuptiActivityGetNumDroppedRecords(context, stream, &dropped);
  all_activities().add(buffer, valid_bytes, dropped);
  std::free(buffer);
}

void write_at_exit() {
  (void)cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  const char* const path = std::getenv("DINFER_PROFILE");
  std::FILE* const file = path == nullptr ? nullptr : std::fopen(path, "w");
  if (path != nullptr && file == nullptr) {
    std::fprintf(stderr, "DINFER_PROFILE: %s cannot be written\n", path);
  }
  all_activities().write(file != nullptr ? file : stderr);
  if (file != nullptr) std::fclose(file);
}

bool said(CUptiResult result, const char* what) {
  if (result == CUPTI_SUCCESS) return false;
  const char* text = "unknown";
  (void)cuptiGetResultString(result, &text);
  std::fprintf(stderr, "libdinfer_profile.so: %s: %s\n", what, text);
  return true;
}

}  // namespace

// CUDA calls this when it starts, and takes anything but 0 for success.
extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  all_activities();
  if (said(cuptiActivityRegisterCallbacks(give_buffer, take_buffer), "taking records")) return 0;
  for (const auto kind : {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY,
                          CUPTI_ACTIVITY_KIND_MEMSET}) {
    if (said(cuptiActivityEnable(kind), "watching the GPU")) return 0;
  }
  return std::atexit(write_at_exit) == 0 ? 1 : 0;
}
