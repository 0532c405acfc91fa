// SPDX-License-Identifier: Apache-2.0
// Requests that must be refused: what smugglers use, and what a lenient parser lets through. Each
// is followed on the wire by a second request that must never be answered.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dinfer::tests {

struct hostile_request {
  std::string name;
  unsigned status = 400;
  std::string bytes;
  bool in_head = true;  // else the head is fine and the body is not

  std::string head() const { return bytes.substr(0, bytes.find("\r\n\r\n") + 4); }
};

inline std::vector<std::string> good_heads() {
  return {
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.0\r\n\r\n",
      "GET http://a:8000/live HTTP/1.1\r\nHost: a:8000\r\n\r\n",
      "OPTIONS * HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
      "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
      "POST /v1/completions HTTP/1.1\r\nhost:a\r\ntransfer-encoding:CHUNKED\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
      "GET /?q=%20 HTTP/1.1\r\nHost: a\r\nX: a\tb\r\nEmpty:\r\n\r\n",
  };
}

inline std::string repeated(std::string_view text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

inline std::vector<hostile_request> hostile_heads() {
  const std::string post = "POST /v1/completions HTTP/1.1\r\n";
  const std::string host = "Host: a\r\n";
  const std::string chunks = "0\r\n\r\n";
  const std::string chunked = post + host + "Transfer-Encoding: chunked\r\n\r\n";
  std::vector<hostile_request> out = {
      {"TE xchunked", 400, post + host + "Transfer-Encoding: xchunked\r\n\r\n" + chunks},
      {"TE identity", 400, post + host + "Transfer-Encoding: identity\r\n\r\n"},
      {"TE gzip, chunked", 400, post + host + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks},
      {"TE chunked, identity", 400,
       post + host + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunks},
      {"TE chunked twice", 400,
       post + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks},
      {"TE with a vertical tab", 400, post + host + "Transfer-Encoding: \vchunked\r\n\r\n"},
      {"TE empty", 400, post + host + "Transfer-Encoding:\r\n\r\n"},
      {"chunked on HTTP/1.0", 400,
       "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks},
      {"CL then TE", 400,
       post + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks},
      {"TE then CL", 400,
       post + host + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunks},
      {"two CLs that differ", 400,
       post + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
      {"two CLs that agree", 400, post + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na"},
      {"CL list", 400, post + host + "Content-Length: 1, 1\r\n\r\na"},
      {"CL signed", 400, post + host + "Content-Length: +1\r\n\r\na"},
      {"CL negative", 400, post + host + "Content-Length: -1\r\n\r\n"},
      {"CL hexadecimal", 400, post + host + "Content-Length: 0x1\r\n\r\na"},
      {"CL overflow", 400, post + host + "Content-Length: 18446744073709551617\r\n\r\na"},
      {"CL empty", 400, post + host + "Content-Length:\r\n\r\n"},
      {"no Host", 400, "GET /live HTTP/1.1\r\n\r\n"},
      {"two Hosts", 400, "GET /live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
      {"Host with a path", 400, "GET /live HTTP/1.1\r\nHost: a/b\r\n\r\n"},
      {"folded line", 400, "GET /live HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"},
      {"folded first line", 400, "GET /live HTTP/1.1\r\n Host: a\r\n\r\n"},
      {"folded Content-Length", 400, post + host + "Content-Length:\r\n 1\r\n\r\na"},
      {"space before colon", 400, "GET /live HTTP/1.1\r\nHost : a\r\n\r\n"},
      {"no colon", 400, "GET /live HTTP/1.1\r\nHost: a\r\nfoo\r\n\r\n"},
      {"empty name", 400, "GET /live HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"},
      {"NUL in a value", 400, std::string("GET /live HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 39)},
      {"NUL in a name", 400, std::string("GET /live HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", 39)},
      {"NUL in the target", 400, std::string("GET /li\0ve HTTP/1.1\r\nHost: a\r\n\r\n", 33)},
      {"bare CR in a value", 400, "GET /live HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"},
      {"bare LF", 400, "GET /live HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"},
      {"nothing but bare LF", 400, "GET /live HTTP/1.1\nHost: a\n\n"},
      {"nothing but bare CR", 400, "GET /live HTTP/1.1\rHost: a\r\r\n"},
      {"empty line first", 400, "\r\nGET /live HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"CL with a second number", 400, post + host + "Content-Length: 1 2\r\n\r\na"},
      {"CL with a fraction", 400, post + host + "Content-Length: 1.0\r\n\r\na"},
      {"CL of 16 digits", 400, post + host + "Content-Length: 9999999999999999\r\n\r\na"},
      {"CL on HTTP/1.0 twice", 400,
       "POST / HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"},
      {"TE quoted", 400, post + host + "Transfer-Encoding: \"chunked\"\r\n\r\n" + chunks},
      {"TE with a parameter", 400, post + host + "Transfer-Encoding: chunked;q=1\r\n\r\n" + chunks},
      {"TE in an odd case and twice", 400,
       post + host + "tRANSFER-eNCODING: Chunked\r\nTransfer-encoding: x\r\n\r\n" + chunks},
      {"TE with a space before the colon", 400,
       post + host + "Transfer-Encoding : chunked\r\n\r\n" + chunks},
      {"1500 fields", 431, "GET /live HTTP/1.1\r\nHost: a\r\n" + repeated("a:\r\n", 1500) + "\r\n"},
      {"lower-case method", 400, "get /live HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"two spaces", 400, "GET  /live HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"tab in the request line", 400, "GET\t/live HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"no version", 400, "GET /live\r\nHost: a\r\n\r\n"},
      {"HTTP/9.9", 505, "GET /live HTTP/9.9\r\nHost: a\r\n\r\n"},
      {"HTTP/2.0", 505, "GET /live HTTP/2.0\r\nHost: a\r\n\r\n"},
      {"relative target", 400, "GET live HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"fragment", 400, "GET /live#a HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"authority form", 400, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"two Authorizations", 400,
       "GET /live HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nAuthorization: y\r\n\r\n"},
      {"unknown expectation", 417, post + host + "Expect: tea\r\nContent-Length: 1\r\n\r\na"},
      {"long target", 414, "GET /" + std::string(5000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"chunk extension", 400, chunked + "1;a=b\r\nx\r\n" + chunks, false},
      {"chunk extension of 20 KB", 400,
       chunked + "1;a=" + std::string(20480, 'b') + "\r\nx\r\n" + chunks, false},
      {"extension of the last chunk", 400, chunked + "1\r\nx\r\n0;a\r\n\r\n", false},
      {"chunk size with a sign", 400, chunked + "+1\r\nx\r\n" + chunks, false},
      {"chunk size as 0x1", 400, chunked + "0x1\r\nx\r\n" + chunks, false},
      {"chunk size with a space", 400, chunked + "1 \r\nx\r\n" + chunks, false},
      {"chunk size missing", 400, chunked + "\r\nx\r\n" + chunks, false},
      {"chunk size of 64 bits", 413, chunked + "ffffffffffffffff\r\nx\r\n" + chunks, false},
      {"chunk size not a number", 400, chunked + "g\r\nx\r\n" + chunks, false},
      {"chunk size overflow", 400, chunked + "10000000000000001\r\nx\r\n" + chunks, false},
      {"chunk ends in LF", 400, chunked + "1\nx\r\n" + chunks, false},
      {"chunk longer than it says", 400, chunked + "1\r\nxy\r\n" + chunks, false},
      {"trailer field", 400, chunked + "1\r\nx\r\n0\r\nHost: b\r\n\r\n", false},
      {"body over the limit", 413, post + host + "Content-Length: 999999999\r\n\r\n", false},
  };
  return out;
}

}  // namespace dinfer::tests
