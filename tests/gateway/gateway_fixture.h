// A gateway in front of the test backend, and readers for what it answers.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/gateway/gateway.h"
#include "server/gateway/grpc_web_frames.h"
#include "tests/gateway/backend.h"
#include "tests/gateway/raw_client.h"

namespace featurescope {

class GatewayTest : public ::testing::Test {
 protected:
  GatewayTest() {
    options_.listen = "127.0.0.1:0";
    options_.allowed_origins = {"http://dev.example:5173"};
    options_.max_message_bytes = 1 << 20;
  }

  void Start() {
    auto gateway = Gateway::Start(options_, InProcessChannel(backend_.server()),
                                  [] { return std::string("up 1\n"); });
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
    port_ = gateway_->port();
  }

  RawResponse Call(absl::string_view method, absl::string_view message,
                   absl::string_view headers = "") {
    return Exchange(port_,
                    PostRequest(absl::StrCat("/test.Echo/", method), Envelope(message), headers));
  }

  GatewayOptions options_;
  Backend backend_;
  std::unique_ptr<Gateway> gateway_;  // ends before the backend
  int port_ = 0;
};

// A whole gRPC-Web answer, taken apart.
struct Answer {
  std::vector<std::string> messages;
  std::string trailers;  // the block inside the trailer frame
  bool well_formed = false;
};

// Checks the contract of every answer: messages, then exactly one trailer frame, nothing after it.
inline Answer TakeApart(const RawResponse& response) {
  Answer answer;
  EXPECT_EQ(response.status, 200) << response.head << response.body;
  EXPECT_TRUE(response.complete);
  EXPECT_EQ(response.headers.count("grpc-status"), 0u);
  absl::string_view rest = response.body;
  while (!rest.empty()) {
    auto frame = ReadFrame(&rest, response.body.size());
    if (!frame.ok()) return answer;
    if (frame->flags == kGrpcWebTrailer) {
      answer.trailers = std::string(frame->payload);
      answer.well_formed = rest.empty();
      return answer;
    }
    if (frame->flags != kGrpcWebMessage) return answer;
    answer.messages.emplace_back(frame->payload);
  }
  return answer;
}

// The grpc-status of an answer, or -1.
inline int StatusOf(const RawResponse& response) {
  const Answer answer = TakeApart(response);
  if (!answer.well_formed) return -1;
  int code = -1;
  std::sscanf(answer.trailers.c_str(), "grpc-status: %d\r\n", &code);
  return code;
}

}  // namespace featurescope
