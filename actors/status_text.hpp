// SPDX-License-Identifier: Apache-2.0
// A cluster's status as the JSON of GET /cluster. What is not known is left out. Pure; any thread.
#pragma once

#include "actors/messages_status.hpp"

#include <string>

namespace dinfer::actors {

std::string render_status(const cluster_status& status);

}  // namespace dinfer::actors
