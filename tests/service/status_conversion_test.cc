#include "server/service/status_conversion.h"

#include "featurescope/v1/errors.pb.h"
#include "gtest/gtest.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

TEST(StatusConversionTest, KeepsEveryCodeAndMessage) {
  for (int code = 1; code <= 16; ++code) {
    if (code == static_cast<int>(absl::StatusCode::kInternal)) continue;
    const grpc::Status converted =
        ToGrpcStatus(absl::Status(static_cast<absl::StatusCode>(code), "why"));
    EXPECT_EQ(static_cast<int>(converted.error_code()), code);
    EXPECT_EQ(converted.error_message(), "why");
    EXPECT_EQ(converted.error_details(), "");
  }
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(StatusConversionTest, NamesTheFieldAsGoogleRpcBadRequest) {
  const grpc::Status converted = ToGrpcStatus(InvalidField("k", "k is 0, must be in [1, 4096]"));
  v1::RpcStatus details;
  ASSERT_TRUE(details.ParseFromString(converted.error_details()));
  EXPECT_EQ(details.code(), static_cast<int>(grpc::StatusCode::INVALID_ARGUMENT));
  ASSERT_EQ(details.details_size(), 1);
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.BadRequest");
  v1::BadRequest bad_request;
  ASSERT_TRUE(bad_request.ParseFromString(details.details(0).value()));
  EXPECT_EQ(bad_request.field_violations(0).field(), "k");
  EXPECT_EQ(bad_request.field_violations(0).description(), "k is 0, must be in [1, 4096]");
}

TEST(StatusConversionTest, MessagesAreValidUtf8WhateverTheClientSent) {
  EXPECT_EQ(ToGrpcStatus(absl::NotFoundError("no \xff\xc3 ü")).error_message(), "no \\xff\\xc3 ü");
}

TEST(StatusConversionTest, AnInternalErrorTellsTheClientNothingOfIt) {
  const grpc::Status converted = ToGrpcStatus(absl::InternalError("pointer 0x1234 of secret.cc"));
  EXPECT_EQ(converted.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(converted.error_message().find("secret"), std::string::npos);
}

}  // namespace
}  // namespace featurescope
