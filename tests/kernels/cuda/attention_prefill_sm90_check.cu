// SPDX-License-Identifier: Apache-2.0
// Checks and times Hopper's prefill attention on a GPU, alone: no library of ours, no Catch2.
//
//   nvcc -std=c++20 -O3 -I. -Iinclude -gencode arch=compute_90a,code=sm_90a
//       -DDINFER_BARRIER_POLLS=10000000
//       tests/kernels/cuda/attention_prefill_sm90_check.cu -o prefill_check
//   ./prefill_check [units] [shapes] [chunks] [times]      (all of them when none is named)
//
// units: single products with descriptors as the kernel makes them, and, where those are wrong,
// with others: which of them are right tells what to change. shapes: steps of many kinds against a
// plain kernel. chunks: the same rows cut into steps in several ways, bit for bit. times: without
// DINFER_BARRIER_POLLS, which makes a wrong result of a wait that never ends. Exits 1 on a wrong
// result.
#include "kernels/cuda/attention_prefill_sm90.cu"
#include "tests/kernels/cuda/prefill_case.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace dinfer::tests {

using kernels::cuda::attention_shape;
using kernels::cuda::bf16;
using kernels::cuda::check;
using kernels::cuda::f16;

bool failed = false;

template <class T>
class on_device {
 public:
  explicit on_device(const std::vector<T>& from) : size_(from.size()) {
    check(cudaMalloc(&data_, size_ * sizeof(T) + 16), "cudaMalloc");
    check(cudaMemcpy(data_, from.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), "upload");
  }
  explicit on_device(std::size_t size) : on_device(std::vector<T>(size)) {}
  ~on_device() { cudaFree(data_); }
  on_device(const on_device&) = delete;
  on_device& operator=(const on_device&) = delete;
  T* data() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> v(size_);
    check(cudaDeviceSynchronize(), "a kernel");
    check(cudaMemcpy(v.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return v;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

// ---- units

enum class unit { scores_step, scores, values_step, values };

// One warpgroup: out [64][128] of queries [64][128] and matrix [128][128], or of weights [64][128]
// and matrix; values products have D columns.
template <int D>
__global__ void __launch_bounds__(128)
    unit_kernel(const bf16* left, const bf16* matrix, float* out, unit what, std::uint32_t leading,
                std::uint32_t stride) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace kernels::cuda;
  using space = shared_space<D>;
  DINFER_SHARED(unsigned char, shared);
  const int thread = static_cast<int>(threadIdx.x);
  const auto put = [&](int half_bytes, int rows, int from, const bf16* source) {
    for (int item = thread; item < rows * D / 8; item += 128) {
      const int row = item / (D / 8), chunk = item % (D / 8);
      store_pack(reinterpret_cast<bf16*>(shared + from + chunk / 8 * half_bytes +
                                         swizzled(row, chunk % 8)),
                 load_pack(source + row * 128 + chunk * 8));
    }
  };
  put(space::query_half, 64, 0, left);
  put(space::key_half, key_tile, space::keys, matrix);
  fence_async();
  __syncthreads();
  const std::uint32_t base = shared_address(shared);
  const bool is_scores = what == unit::scores || what == unit::scores_step;
  if (is_scores) {
    float d[64];
    const auto a = matrix_words(base, leading, stride);
    const auto b = matrix_words(base + space::keys, leading, stride);
    if (what == unit::scores) {
      start_scores<bf16, D>(d, a, b);
    } else {
      multiply_fence();
      multiply_shared<bf16>(d, a, b, false);
      multiply_commit();
    }
    multiply_wait<0>();
    pin(d);
    for (int i = 0; i < 64; ++i)
      out[(thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8) * 128 + i / 4 * 8 + thread % 4 * 2 +
          i % 2] = d[i];
  } else {
    float d[D / 2] = {};
    std::uint32_t weights[32];
    for (int i = 0; i < 32; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8;
      const int column = i / 2 * 8 + thread % 4 * 2;
      weights[i] = pack_two<bf16>(to_float(left[row * 128 + column]),
                                  to_float(left[row * 128 + column + 1]));
    }
    const auto b = matrix_words(base + space::keys, leading, stride);
    if (what == unit::values) {
      start_values<bf16>(d, weights, b);
    } else {
      multiply_fence();
      multiply_registers<bf16>(d, weights, b);
      multiply_commit();
    }
    multiply_wait<0>();
    pin(d);
    for (int i = 0; i < D / 2; ++i)
      out[(thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8) * 128 + i / 4 * 8 + thread % 4 * 2 +
          i % 2] = d[i];
  }
#endif
}

// How many elements of a product are wrong.
template <int D>
int wrong_elements(unit what, std::uint32_t leading, std::uint32_t stride) {
  std::vector<bf16> left(64 * 128), matrix(128 * 128);
  for (int i = 0; i < 64 * 128; ++i) left[i] = __float2bfloat16((i * 7 + i / 128 * 3) % 11 - 5);
  for (int i = 0; i < 128 * 128; ++i) matrix[i] = __float2bfloat16((i * 5 + i / 128) % 13 - 6);
  on_device<bf16> a(left), b(matrix);
  on_device<float> out(64 * 128);
  kernels::cuda::launch(&unit_kernel<D>, dim3(1), dim3(128), kernels::cuda::shared_space<D>::bytes,
                        nullptr, a.data(), b.data(), out.data(), what, leading, stride);
  const auto got = out.values();
  const bool scores = what == unit::scores || what == unit::scores_step;
  const bool step = what == unit::scores_step || what == unit::values_step;
  const int inner = step ? 16 : scores ? D : 128, columns = scores ? 128 : D;
  int wrong = 0;
  for (int r = 0; r < 64; ++r) {
    for (int c = 0; c < columns; ++c) {
      float sum = 0;
      for (int k = 0; k < inner; ++k)
        sum += float_of(left[r * 128 + k]) *
               float_of(scores ? matrix[c * 128 + k] : matrix[k * 128 + c]);
      wrong += got[r * 128 + c] != sum;
    }
  }
  return wrong;
}

template <int D>
void check_unit(const char* name, unit what, std::uint32_t leading, std::uint32_t stride) {
  const int wrong = wrong_elements<D>(what, leading, stride);
  std::printf("unit %-11s head_dim %-3d leading %-5u stride %-5u: %d wrong\n", name, D, leading,
              stride, wrong);
  if (wrong == 0) return;
  failed = true;
  for (const std::uint32_t l : {0U, 16U, 128U, 1024U, 2048U, 8192U, 16384U}) {
    for (const std::uint32_t s : {0U, 16U, 128U, 1024U, 2048U, 8192U, 16384U})
      std::printf("  leading %-5u stride %-5u: %d wrong\n", l, s, wrong_elements<D>(what, l, s));
  }
}

// A page's half, as it lies in shared memory after a bulk copy.
__global__ void box_kernel(const __grid_constant__ CUtensorMap map, int c0, int c2, int c3,
                           int bytes, unsigned char* out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace kernels::cuda;
  DINFER_SHARED(unsigned char, shared);
  auto* barrier = reinterpret_cast<std::uint64_t*>(shared + bytes);
  if (threadIdx.x == 0) {
    barrier_init(barrier, 1);
    barrier_init_done();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    barrier_arrive_expect(barrier, bytes);
    load_box(shared, &map, c0, 0, c2, c3, barrier);
  }
  barrier_wait(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += static_cast<int>(blockDim.x))
    out[i] = shared[i];
#endif
}

void check_box(int head_dim, int block_size) {
  attention_shape shape;
  shape.kv_heads = 3;
  shape.head_dim = head_dim;
  shape.block_size = block_size;
  shape.page_elements = std::int64_t{2} * 2 * 3 * block_size * head_dim;
  shape.page_count = 5;
  std::vector<std::uint16_t> values(static_cast<std::size_t>(5 * shape.page_elements));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint16_t>(i * 40503);
  on_device<std::uint16_t> pages(values);
  const int bytes = block_size * 128;
  on_device<unsigned char> out(static_cast<std::size_t>(bytes));
  shape.pages = pages.data() + shape.page_elements / 2;
  const int half = head_dim / 64 - 1, head = 4, page = 3;
  kernels::cuda::launch(&box_kernel, dim3(1), dim3(128), static_cast<std::size_t>(bytes + 16),
                        nullptr, kernels::cuda::page_map(shape, kernels::dtype::bf16), half * 64,
                        head, page, bytes, out.data());
  const auto got = out.values();
  int wrong = 0;
  for (int row = 0; row < block_size; ++row) {
    for (int column = 0; column < 64; ++column) {
      const auto& right = values[static_cast<std::size_t>(
          shape.page_elements / 2 + page * shape.page_elements +
          (head * block_size + row) * head_dim + half * 64 + column)];
      const auto at = kernels::cuda::swizzled(static_cast<std::uint32_t>(row),
                                              static_cast<std::uint32_t>(column / 8)) +
                      static_cast<std::uint32_t>(column % 8 * 2);
      wrong += std::memcmp(&right, got.data() + at, 2) != 0;
    }
  }
  std::printf("unit box         head_dim %-3d block %-3d: %d wrong\n", head_dim, block_size, wrong);
  if (wrong != 0) failed = true;
}

void check_units() {
  for (const int block : {16, 32, 128}) {
    check_box(64, block);
    check_box(128, block);
  }
  check_unit<128>("scores step", unit::scores_step, 0, 1024);
  check_unit<128>("scores", unit::scores, 0, 1024);
  check_unit<64>("scores", unit::scores, 0, 1024);
  check_unit<128>("values step", unit::values_step, 16384, 1024);
  check_unit<128>("values", unit::values, 16384, 1024);
  check_unit<64>("values", unit::values, 16384, 1024);
}

// ---- whole steps

// One row a block: a token and a query head; f32, out [rows][head_dim].
template <class T>
__global__ void plain_kernel(const __grid_constant__ attention_shape a, const int* row_tokens,
                             const int* row_sequences, float* out) {
  using kernels::cuda::to_float;
  DINFER_SHARED(float, weights);  // of the visible keys
  __shared__ float sums[128];
  const int token = row_tokens[blockIdx.x], s = row_sequences[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
  int kv = 0;
  while (a.first_query[kv + 1] <= head) ++kv;
  const int position = a.context[s] - a.query_begin[s + 1] + token;
  const int begin = a.window > 0 ? max(0, position - a.window + 1) : 0;
  const T* query = static_cast<const T*>(a.qkv) + token * a.qkv_columns + head * a.head_dim;
  const auto line = [&](int part, int key) {
    const std::int64_t page = a.block_table[a.table_rows[s] * a.table_width + key / a.block_size];
    return static_cast<const T*>(a.pages) + page * a.page_elements +
           ((part * a.kv_heads + kv) * a.block_size + key % a.block_size) * a.head_dim;
  };
  float most = -INFINITY;
  for (int key = begin + thread; key <= position; key += 128) {
    float score = 0;
    for (int c = 0; c < a.head_dim; ++c) score += to_float(query[c]) * to_float(line(0, key)[c]);
    weights[key - begin] = score * a.scale;
    most = fmaxf(most, score * a.scale);
  }
  sums[thread] = most;
  __syncthreads();
  for (int i = 0; i < 128; ++i) most = fmaxf(most, sums[i]);
  __syncthreads();
  float sum = 0;
  for (int key = begin + thread; key <= position; key += 128) {
    weights[key - begin] = expf(weights[key - begin] - most);
    sum += weights[key - begin];
  }
  sums[thread] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < 128; ++i) sum += sums[i];
  if (thread >= a.head_dim) return;
  float value = 0;
  for (int key = begin; key <= position; ++key)
    value += weights[key - begin] * to_float(line(1, key)[thread]);
  out[(std::int64_t{blockIdx.x} * a.query_heads + head) * a.head_dim + thread] =
      a.context[s] > 0 ? value / sum : 0;
}

template <class T>
struct device_step {
  explicit device_step(const prefill_step<T>& step)
      : qkv(step.qkv),
        pages(step.pages),
        out(step.out),
        query_begin(step.query_begin),
        context(step.context),
        table_rows(step.table_rows),
        table(step.table),
        shape(step.shape) {
    shape.qkv = qkv.data();
    shape.out = out.data();
    shape.pages = pages.data() + shape.page_elements / 2;
    shape.query_begin = query_begin.data();
    shape.context = context.data();
    shape.table_rows = table_rows.data();
    shape.block_table = table.data();
  }
  on_device<T> qkv, pages, out;
  on_device<std::int32_t> query_begin, context, table_rows, table;
  attention_shape shape;
};

template <class T>
void attend(const prefill_step<T>& step, device_step<T>& device) {
  if (!kernels::cuda::prefill_sm90_fits(device.shape, dtype_of<T>)) {
    std::printf("prefill_sm90_fits says no\n");
    std::exit(1);
  }
  kernels::cuda::attend_prefill_sm90(device.shape, step.of.skipped,
                                     step.tokens - step.skipped_tokens, dtype_of<T>, nullptr);
}

// `every`: only each so many tokens are compared.
template <class T>
void check_shape(const char* name, const prefill_case& of, int every = 1) {
  const prefill_step<T> step(of, 11);
  device_step<T> device(step);
  attend(step, device);
  const auto got = device.out.values();
  std::vector<int> tokens, sequences;
  int longest = 1;
  for (int s = of.skipped; s < step.shape.sequences; ++s) {
    longest = std::max(longest, step.context[s]);
    for (int t = step.query_begin[s]; t < step.query_begin[s + 1]; ++t) {
      if (t % every != 0 && t + 1 != step.query_begin[s + 1]) continue;
      tokens.push_back(t);
      sequences.push_back(s);
    }
  }
  on_device<int> row_tokens(tokens), row_sequences(sequences);
  on_device<float> plain(tokens.size() * step.query_heads * of.head_dim);
  kernels::cuda::launch(
      &plain_kernel<T>,
      dim3(static_cast<unsigned>(tokens.size()), static_cast<unsigned>(step.query_heads)),
      dim3(128), sizeof(float) * longest, nullptr, device.shape, row_tokens.data(),
      row_sequences.data(), plain.data());
  const auto right = plain.values();
  double worst = 0;
  std::string where = "-";
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    for (int h = 0; h < step.query_heads; ++h) {
      const float* r = right.data() + (i * step.query_heads + h) * of.head_dim;
      const T* g =
          got.data() + (static_cast<std::size_t>(tokens[i]) * step.query_heads + h) * of.head_dim;
      double most = 0, error = 0;
      for (int c = 0; c < of.head_dim; ++c) {
        const double off = std::abs(double{float_of(g[c])} - r[c]);
        error = off <= error ? error : off;
        most = std::max(most, std::abs(double{r[c]}));
      }
      error = most > 0 ? error / most : error;
      if (error <= worst) continue;
      worst = error;
      where = "token " + std::to_string(tokens[i]) + " of sequence " +
              std::to_string(sequences[i]) + ", head " + std::to_string(h);
    }
  }
  bool touched = false;
  for (std::size_t i = 0;
       i < static_cast<std::size_t>(step.skipped_tokens * step.query_heads) * of.head_dim; ++i)
    touched = touched || !std::isnan(float_of(got[i]));
  const double bound = std::is_same_v<T, f16> ? 2e-3 : 1.5e-2;
  const bool right_enough = worst <= bound && !touched;
  std::printf("shape %-22s %s head_dim %-3d block %-3d window %-4d: error %.2e at %s%s%s\n", name,
              std::is_same_v<T, f16> ? "f16 " : "bf16", of.head_dim, of.block_size, of.window,
              worst, where.c_str(), touched ? ", skipped rows were written" : "",
              right_enough ? "" : "  WRONG");
  if (!right_enough) failed = true;
}

template <class T>
void check_shapes() {
  for (const int head_dim : {64, 128}) {
    for (const int queries : {1, 33, 128, 129, 700})
      check_shape<T>("whole", {{4}, head_dim, 32, 0, {{7, queries, queries}}});
    for (const int block : {16, 32, 64, 128}) {
      for (const int window : {0, 1, 40, 128, 1000}) {
        prefill_case of{{3, 1, 8}, head_dim, block, window, {}};
        of.sequences = {{0, 5, 1},    {1, 0, 1}, {2, 3000, 3}, {3, 384, 20},
                        {4, 257, 30}, {5, 0, 2}, {6, 1, 1},    {7, 2049, 600}};
        of.skipped = 2;
        check_shape<T>("ragged", of);
      }
    }
    prefill_case many{{2}, head_dim, 16, 0, {}};
    for (int s = 0; s < 300; ++s)
      many.sequences.push_back({s, s % 7 == 3 ? 0 : 1 + s, std::min(s % 5 + s / 60 * 60, 1 + s)});
    check_shape<T>("many", many);
    check_shape<T>("long", {{4, 4}, head_dim, 32, 0, {{1, 5000, 5000}}}, 7);
  }
}

template <class T>
void check_chunks(int head_dim, int window) {
  const int length = 3000;
  prefill_case whole{{4, 2}, head_dim, 32, window, {{9, length, length}}};
  const prefill_step<T> all(whole, 5);
  device_step<T> device(all);
  attend(all, device);
  const auto right = device.out.values();
  int begin = 0, wrong = 0;
  for (const int chunk : {1, 63, 100, 130, 6, 1000, 512, 1188}) {
    begin += chunk;
    prefill_case of = whole;
    of.block_size = 64;
    of.sequences = {{1, 70, 9}, {9, begin, chunk}, {2, 200, 65}};
    const prefill_step<T> part(of, 5);
    device_step<T> part_device(part);
    attend(part, part_device);
    const auto got = part_device.out.values();
    for (int q = 0; q < chunk; ++q)
      wrong += std::memcmp(part.row_of(got, 1, q, 0), all.row_of(right, 0, begin - chunk + q, 0),
                           sizeof(T) * static_cast<std::size_t>(6 * head_dim)) != 0;
  }
  std::printf("chunks %s head_dim %-3d window %-4d: %d of %d tokens differ\n",
              std::is_same_v<T, f16> ? "f16 " : "bf16", head_dim, window, wrong, begin);
  if (wrong != 0 || begin != length) failed = true;
}

template <class T>
void time_shape(const char* name, const prefill_case& of) {
  const prefill_step<T> step(of, 3);
  device_step<T> device(step);
  double keys = 0;
  for (const auto& s : of.sequences)
    keys += double{1} * s.queries * (s.context - s.queries) + 0.5 * s.queries * (s.queries + 1.0);
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  const int times = 20;
  float best = 1e30F, sum = 0;
  for (int i = -3; i < times; ++i) {
    check(cudaEventRecord(begin), "event");
    attend(step, device);
    check(cudaEventRecord(end), "event");
    check(cudaEventSynchronize(end), "a kernel");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "event");
    if (i < 0) continue;
    best = std::min(best, ms);
    sum += ms;
  }
  const double flops = 4.0 * of.head_dim * step.query_heads * keys;
  std::printf("time %-30s %s head_dim %-3d: mean %9.1f us %6.1f TFLOP/s, best %9.1f us %6.1f\n",
              name, std::is_same_v<T, f16> ? "f16 " : "bf16", of.head_dim, sum / times * 1e3,
              flops / (sum / times) * 1e-9, best * 1e3, flops / best * 1e-9);
}

void take_times() {
  const std::vector<int> heads(8, 4);
  for (const int tokens : {512, 2048, 8192}) {
    const std::string name = std::to_string(tokens) + " tokens";
    time_shape<bf16>(name.c_str(), {heads, 128, 32, 0, {{1, tokens, tokens}}});
  }
  time_shape<bf16>("8192 tokens, block 16", {heads, 128, 16, 0, {{1, 8192, 8192}}});
  time_shape<bf16>("8192 tokens, block 128", {heads, 128, 128, 0, {{1, 8192, 8192}}});
  time_shape<f16>("8192 tokens", {heads, 128, 32, 0, {{1, 8192, 8192}}});
  time_shape<bf16>("8192 tokens", {heads, 64, 32, 0, {{1, 8192, 8192}}});
  time_shape<bf16>("1024 after 15360", {heads, 128, 32, 0, {{1, 16384, 1024}}});
  prefill_case short_ones{heads, 128, 32, 0, {}};
  for (int s = 0; s < 64; ++s) short_ones.sequences.push_back({s, 128, 128});
  time_shape<bf16>("64 of 128 tokens", short_ones);
}

}  // namespace dinfer::tests

int main(int argc, char** argv) {
  using namespace dinfer::tests;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const auto wanted = [&](const char* name) {
    for (int i = 1; i < argc; ++i) {
      if (std::string(argv[i]) == name) return true;
    }
    return argc == 1;
  };
  try {
    if (wanted("units")) check_units();
    if (wanted("shapes")) {
      check_shapes<bf16>();
      check_shapes<f16>();
    }
    if (wanted("chunks")) {
      for (const int window : {0, 77, 500}) {
        check_chunks<bf16>(128, window);
        check_chunks<f16>(128, window);
        check_chunks<bf16>(64, window);
      }
    }
    if (wanted("times")) take_times();
  } catch (const std::exception& e) {
    std::printf("%s\n", e.what());
    return 1;
  }
  std::printf(failed ? "WRONG\n" : "all right\n");
  return failed ? 1 : 0;
}
