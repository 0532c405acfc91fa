// SPDX-License-Identifier: Apache-2.0
// Parts of a node that checks devices and links instead of serving. Such nodes join each other
// only.
#pragma once

#include "actors/parts.hpp"

namespace dinfer::actors {

// `parts` are default_parts(config). Has NCCL write its log into a file of this process, so it
// comes before anything that opens NCCL, and before threads: it sets environment variables. The
// file goes with the parts.
node_parts check_parts(const cluster_config& config, node_parts parts);

}  // namespace dinfer::actors
