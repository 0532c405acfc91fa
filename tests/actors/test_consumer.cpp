// SPDX-License-Identifier: Apache-2.0
// Another process that reads a stream, for embed_test.cpp: connects to the engine that is published
// at the port it is given, prints "tokens" with the first event and "last <message>" with the last.
#include "dinfer/caf.hpp"

#include <caf/all.hpp>
#include <caf/io/all.hpp>

#include <chrono>
#include <cstdio>
#include <string>

namespace {

struct host_config : caf::actor_system_config {
  host_config() {
    dinfer::configure(*this);
    load<caf::io::middleman>();
  }
};

void line(const std::string& text) {
  std::fprintf(stdout, "%s\n", text.c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::chrono::seconds patience{20};
  if (argc != 2) return 2;
  host_config config;
  caf::actor_system system(config);
  const auto engine = system.middleman().remote_actor<dinfer::engine_actor>(
      "127.0.0.1", static_cast<std::uint16_t>(std::stoul(argv[1])));
  if (!engine) return 1;
  dinfer::open_stream what;
  what.request.prompt = {1, 2, 3};
  what.request.sampling.max_tokens = 100'000;
  what.request.sampling.ignore_eos = true;
  caf::scoped_actor self{system};
  self->request(*engine, patience, what)
      .receive([](const dinfer::stream_opened&) {},
               [&](const caf::error& why) { line("last " + system.render(why)); });
  bool first = true, ended = false;
  while (!ended) {
    self->receive(
        [&](const dinfer::stream_event& got) {
          if (first) line("tokens");
          first = false;
          ended = got.event.finish != dinfer::finish_reason::none;
          if (ended) line("last " + got.event.message);
          else self->send(*engine, dinfer::grant_credit{got.event.id});
        },
        caf::after(patience) >> [&] { ended = true; });
  }
  return 0;
}
