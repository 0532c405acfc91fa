// SPDX-License-Identifier: Apache-2.0
// CPU devices of one process help each other: a rank that waits for its peers takes over chunks of
// what they are at (work stealing between ranks, one guest a device). Results are the same bits
// whoever computes them.
#pragma once

namespace dinfer::kernels {

// Takes over one chunk of what another thread's device is at; false when nobody has any to give.
// Takes as long as the chunk, a fraction of an operation. Any thread that is in no operation.
bool help_a_neighbour() noexcept;

}  // namespace dinfer::kernels
