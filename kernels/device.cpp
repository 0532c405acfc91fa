// SPDX-License-Identifier: Apache-2.0
// Ownership of device memory, and what a device without graphs answers.
#include "kernels/device.hpp"

namespace dinfer::kernels {

buffer::~buffer() {
  if (owner_ != nullptr) owner_->release(data_, bytes_, kind_);
}

void device::begin_capture() {
  throw device_error(errc::unsupported, traits().name + ": this device records no graphs");
}

std::unique_ptr<graph> device::end_capture() {
  throw device_error(errc::unsupported, traits().name + ": this device records no graphs");
}

}  // namespace dinfer::kernels
