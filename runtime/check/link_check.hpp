// SPDX-License-Identifier: Apache-2.0
// A rank that holds no model: it opens its device and measures its links, so that what would fail
// or be slow is known before weights are read. All ranks meet over their hosts, then every group is
// tried alone, in the same order everywhere: each two ranks of a stage, each stage of more than
// two, each two neighbours of a pipeline. Thread: the shard's.
#pragma once

#include "runtime/runner.hpp"

#include <memory>
#include <string>
#include <vector>

namespace dinfer::runtime {

// Ranks of every group to try, in order.
std::vector<std::vector<std::int32_t>> groups_to_check(std::int32_t stages, std::int32_t tp_size);

// A runner of which load(), card() and check() may be called. `nccl_log`: the file that NCCL
// writes to in this process; empty: none.
std::unique_ptr<runner> make_link_check(const runner_options& options,
                                        std::unique_ptr<transport> wires, std::string nccl_log);

}  // namespace dinfer::runtime
