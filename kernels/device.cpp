// SPDX-License-Identifier: Apache-2.0
// Ownership of device memory, and what a device without graphs or groups answers.
#include "kernels/device.hpp"

#include "kernels/communicator.hpp"
#include "kernels/device_software.hpp"

namespace dinfer::kernels {

buffer::~buffer() {
  if (owner_ != nullptr) owner_->release(data_, bytes_, kind_);
}

device_software device::software() const { return {}; }

void device::begin_capture() {
  throw device_error(errc::unsupported, traits().name + ": this device records no graphs");
}

std::unique_ptr<graph> device::end_capture() {
  throw device_error(errc::unsupported, traits().name + ": this device records no graphs");
}

std::unique_ptr<communicator> device::join_group(const group_place&) {
  throw device_error(errc::unsupported, traits().name + ": this device has no groups of its own");
}

}  // namespace dinfer::kernels
